"""Single answers in many languages and forms, read."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gems.models.chat.answers import read_answer, read_verdict
from gems.models.chat.thought import split_thought

FORMS = [json.loads(line) for line in (Path(__file__).parent / "answer_forms.jsonl").read_text("utf-8").splitlines()]
LANGUAGES = {"en", "zh", "ja", "ko", "es", "fr", "de", "pt", "it", "ru", "ar", "hi"}


def test_the_matrix_of_forms() -> None:
    """None is read the wrong way round, and at most 2 % of the verdicts are not read."""
    wrong, unread, verdicts = [], [], 0
    for form in FORMS:
        # As the client does, which has no answer where nothing follows a thought.
        value, _ = read_answer(split_thought(form["text"])[1])
        verdicts += form["value"] != "unknown"
        if value == "unknown" != form["value"]:
            unread.append(form)
        elif value != form["value"]:
            wrong.append((value, form))
    assert wrong == []
    assert len(unread) <= 0.02 * verdicts, unread
    counts = Counter((form["language"], form["value"]) for form in FORMS)
    assert {
        language for language in LANGUAGES if min(counts[language, value] for value in ("yes", "no", "unknown")) < 5
    } == set()
    assert len(FORMS) > 1_800


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (True, "yes"),
        (False, "no"),
        ("Yes.", "yes"),
        ("partially", "no"),
        ("N/A", "unknown"),
        ("yes, no or unknown", "unknown"),
        (None, "unknown"),
        (1, "unknown"),
        (["yes"], "unknown"),
        ({"answer": "yes"}, "unknown"),
    ],
)
def test_values_of_an_answers_key(value: Any, verdict: str) -> None:
    assert read_verdict(value) == verdict


@pytest.mark.parametrize(
    "text",
    [
        *("answer" + " " * 50_000, "the answer: " * 5_000, "*" * 50_000 + "yes", "no doubt" + "," * 50_000),
        *("no " * 30_000, "no. " * 30_000, "yes, " * 20_000, "<answer>" * 20_000, "{" * 20_000, "[" * 20_000),
        *("\\boxed{" * 20_000, "\\text{" * 20_000, "**" * 30_000, "1. " * 20_000, "wait no " * 10_000, "-" * 50_000),
        *("|" * 50_000, "\n" * 50_000, "$" * 50_000, "<b" * 30_000, "so, " * 20_000, "[" * 900 + "]" * 900),
        *("answer\n" * 10_000, "yes " + "or " * 20_000, "<|begin_of_box|>" * 5_000, "if " * 20_000 + "answer: yes"),
    ],
    ids=range(26),
)
def test_a_model_caught_in_a_loop_holds_up_nobody(text: str) -> None:
    started = time.process_time()
    read_answer(text)
    assert time.process_time() - started < 1.5
