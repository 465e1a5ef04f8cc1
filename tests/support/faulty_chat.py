"""A chat model behind the stub that sees one fault in every picture, in one place."""

from __future__ import annotations

import json
from typing import Any

from tests.support.pausable_models import QUESTIONS, task_of

BOX = [250, 250, 625, 625]
"""Where the fault is, in thousandths."""


def chat(messages: list[dict[str, Any]]) -> str:
    """Answer each task of a run: the last of three requirements is never met."""
    task = task_of(messages)
    told: dict[str, Any] = {
        "route": {"skills": [], "why": "It is plain."},
        "decompose": {"requirements": [{"question": question} for question in QUESTIONS]},
        "complete": {"requirements": []},
        "checklist": {"answers": [_answer(number) for number in (1, 2, 3)]},
        "reflect": {"experience": "It lacks something.", "prompt": "a red cat asleep, anew"},
        "mend": {"experience": "It lacks something.", "instruction": "Let it sleep.", "prompt": "a red cat asleep"},
    }
    return json.dumps(told[task]) if task in told else "No. It is awake." if task == "verify" else "Red."


def _answer(number: int) -> dict[str, Any]:
    is_met = number < len(QUESTIONS)
    answer = {"number": number, "evidence": "seen", "answer": "yes" if is_met else "no"}
    return answer if is_met else answer | {"box": BOX}
