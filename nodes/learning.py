"""Learning from other runs, and leaving them something to learn from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, cast

from gems.errors import GemsError, InternalError, LimitReached
from gems.events import LessonsRecalled
from gems.memory.experience import EXPERIENCES, experience_key, namespace
from gems.memory.outbox import PendingOp
from gems.memory.recalling import Wanted, recall, told
from gems.memory.remembering import checked, credits_of, remembered_rounds
from gems.models.usage import NOTHING
from gems.nodes.prompts import numbered
from gems.state import State
from gems.types import Recall, Recalled, Requirement
from gems.work import Work

UNREACHABLE = "Earlier runs' lessons cannot be used:"
"""How the warning about a store that is down begins; a run tells it once."""


async def lessons(state: State, work: Work, number: int) -> list[Recalled]:
    """What earlier runs learnt that fits the prompt of round `number`; nothing where memory is off.

    What was found is entered into the ledger: a turn that starts again asks the model the same question.
    A store that is down costs no run.
    """
    if work.store is None or not state["options"].get("memory", True) or work.profile == "paper":
        return []
    key = f"recall/{number}"
    kept = await work.context.ledger.answer(work.run_id, key) if work.run_id else None
    if kept is not None:
        return cast("list[Recalled]", json.loads(kept["text"]))
    try:
        found = await work.within_limits(recall(work.store, _wanted(state, work)))
    except (LimitReached, InternalError):
        raise
    except GemsError as error:
        if not any(
            known.startswith(UNREACHABLE) for known in (*(state.get("warnings") or ()), *work.warnings)
        ):
            work.warn(f"{UNREACHABLE} {error}")
        return []
    if work.run_id:
        text = json.dumps(found, ensure_ascii=False)
        await work.context.ledger.enter_answer(
            work.run_id,
            key,
            "recall",
            {"text": text, "thought": "", "yes_probability": None, "usage": NOTHING},
        )
    if found:
        work.emit(LessonsRecalled(recall={"round": number, "lessons": found}))
    return found


def lesson_lines(found: Sequence[Recalled]) -> str:
    """The lessons as a chat model is shown them, one line each."""
    return numbered(told(lesson) for lesson in found)


def recalled(number: int, found: list[Recalled]) -> dict[str, list[Recall]]:
    """The update that records what round `number` is drawn with."""
    return {"recalls": [{"round": number, "lessons": found}]} if found else {}


async def settle(state: State, work: Work, *, last: bool = False) -> None:
    """Hand on what the newest judged round decided: the experience before it, and its lessons' worth.

    Args:
        state: The run's state after judging.
        work: This turn.
        last: Whether no round follows, so that the newest experience is handed on as well.
    """
    if work.store is None or not state["options"].get("memory", True) or not state.get("rounds"):
        return
    newest = state["rounds"][-1]["number"]
    pending = [op for op in _experiences(state, work) if op["value"]["round"] == newest - 1 or last]
    pending += _credits(state, work, newest)
    for op in pending:
        await work.hand_on(op)


def _wanted(state: State, work: Work) -> Wanted:
    rounds = state.get("rounds") or []
    failed = checked(rounds[-1], state["requirements"], "no") if rounds else []
    return Wanted(
        prompt=state["prompt"],
        generator=work.context.generator.capabilities.model,
        without=frozenset({run_name(state, work)}),
        failing=[item["question"] for item in failed],
        kinds=frozenset(item["kind"] for item in failed),
    )


def run_name(state: State, work: Work) -> str:
    """What experiences call the run: its id, or for a graph without threads what makes it repeatable."""
    if work.run_id:
        return work.run_id
    identity = f"{state['prompt']}\x1f{state['options']['seed']}"
    return f"unnamed-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def _experiences(state: State, work: Work) -> list[PendingOp]:
    run, generator = run_name(state, work), work.context.generator.capabilities.model
    return [
        {
            "id": f"experience/{run}/{value['round']}",
            "kind": "put",
            "namespace": list(namespace(EXPERIENCES, generator)),
            "key": experience_key(run, value["round"]),
            "value": {**value, "generator": generator},
        }
        for value in remembered_rounds(cast("dict[str, Any]", state), run)
    ]


def _credits(state: State, work: Work, newest: int) -> list[PendingOp]:
    requirements: list[Requirement] = state["requirements"]
    run = run_name(state, work)
    return [
        {
            "id": f"credit/{run}/{newest}/{lesson['key']}",
            "kind": "credit",
            "namespace": lesson["namespace"],
            "key": lesson["key"],
            "value": dict(credit),
        }
        for given in state.get("recalls") or []
        if given["round"] == newest
        for lesson, credit in zip(
            given["lessons"], credits_of(given, state["rounds"], requirements), strict=True
        )
    ]
