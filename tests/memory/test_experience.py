"""What a trajectory teaches, and what it says about the lessons it was shown."""

from __future__ import annotations

from typing import Any

import pytest

from gems.memory.experience import collect_experiences, lesson_credits
from gems.types import Recall, Requirement, Round

REQUIREMENTS: list[Requirement] = [
    {"id": "r1", "question": "Three cats?", "kind": "count", "parents": []},
    {"id": "r2", "question": "A sign?", "kind": "text", "parents": []},
]


def turn(number: int, *answers: str) -> Round:
    said: Any = [
        {"requirement": f"r{n}", "answer": answer, "evidence": "", "probability": None, "source": "judge"}
        for n, answer in enumerate(answers, 1)
    ]
    candidate: Any = {"index": 0, "image": "0" * 64, "model": "flat"}
    score = answers.count("yes") / len(answers)
    return {
        "number": number,
        "prompt": f"prompt {number}",
        "negative_prompt": "",
        "candidates": [candidate],
        "verdicts": [{"image": "0" * 64, "answers": said, "score": score}],
        "best": 0,
        "score": score,
        "seconds": {},
    }


def state(*rounds: Round) -> dict[str, Any]:
    experiences = [
        {"round": item["number"], "text": "word " * 150, "next_prompt": f"prompt {item['number'] + 1}"}
        for item in rounds
    ]
    return {
        "prompt": "three cats",
        "requirements": REQUIREMENTS,
        "rounds": list(rounds),
        "experiences": experiences,
        "plan": {"skills": ["spatial"], "why": "", "prompt": ""},
    }


def recalled(number: int, *kinds: list[str]) -> Recall:
    lessons: Any = [{"key": str(n), "kinds": list(kind)} for n, kind in enumerate(kinds)]
    return {"round": number, "lessons": lessons}


def test_rounds_are_remembered_with_the_next_one() -> None:
    first, last = collect_experiences(state(turn(1, "no", "yes"), turn(2, "yes", "no")), "run")
    assert (first["run"], first["round"], first["generator"], first["skills"]) == ("run", 1, "flat", ["spatial"])
    assert first["failed"] == [{"kind": "count", "question": "Three cats?"}]
    assert first["passed_after"] == first["failed"]
    assert (first["score"], first["score_after"]) == (0.5, 0.5)
    assert first["failed_after"] == [{"kind": "text", "question": "A sign?"}]
    assert len(first["text"].split()) == 100
    assert first["text_indexed"] == "three cats\nThree cats?"
    assert (last["score_after"], last["failed_after"], last["passed_after"]) == (None, [], [])


def test_a_run_without_experiences_teaches_nothing() -> None:
    assert collect_experiences({"prompt": "a cat"}, "run") == []


@pytest.mark.parametrize(
    ("kinds", "after", "helped", "hurt"),
    [
        (["count"], ("yes", "no"), 1, 0),
        (["text"], ("yes", "no"), 0, 1),
        (["count", "text"], ("yes", "no"), 0, 1),
        (["count"], ("unknown", "yes"), 0, 0),
        (["style"], ("yes", "yes"), 0, 0),
    ],
)
def test_lessons_are_credited_with_what_they_are_about(
    kinds: list[str], after: tuple[str, str], helped: int, hurt: int
) -> None:
    rounds = [turn(1, "no", "no"), turn(2, *after)]
    assert lesson_credits(recalled(2, kinds), rounds, REQUIREMENTS) == [{"shown": 1, "helped": helped, "hurt": hurt}]


def test_what_passed_before_is_no_merit() -> None:
    rounds = [turn(1, "yes", "no"), turn(2, "yes", "no")]
    assert lesson_credits(recalled(2, ["count"]), rounds, REQUIREMENTS)[0] == {"shown": 1, "helped": 0, "hurt": 0}


def test_in_a_first_round_everything_of_its_kinds_counts() -> None:
    found = lesson_credits(recalled(1, ["count"], ["text"]), [turn(1, "yes", "no")], REQUIREMENTS)
    assert [(item["helped"], item["hurt"]) for item in found] == [(1, 0), (0, 1)]
