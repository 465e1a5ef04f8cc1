"""The experiences that a trajectory holds, and what came of the lessons that were shown in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gems.memory.experience import (
    Checked,
    Remembered,
    indexed_text,
    no_record,
    now,
    shortened,
)
from gems.types import AnswerValue, Experience, Recall, Requirement, Round, TrackRecord


def remembered_rounds(state: Mapping[str, Any], run: str) -> list[Remembered]:
    """Every round of a trajectory that taught something, as later runs find it.

    Args:
        state: A run's state, however far it came.
        run: Its id.
    """
    rounds = {turn["number"]: turn for turn in state.get("rounds") or []}
    return [
        remembered(state, run, experience, rounds[experience["round"]], rounds.get(experience["round"] + 1))
        for experience in state.get("experiences") or []
        if experience["round"] in rounds
    ]


def remembered(
    state: Mapping[str, Any], run: str, experience: Experience, turn: Round, following: Round | None
) -> Remembered:
    """One round's experience with how the next round went, if there was one."""
    requirements = state["requirements"]
    failed = checked(turn, requirements, "no")
    return {
        "run": run,
        "round": turn["number"],
        "prompt": state["prompt"],
        "generator": turn["candidates"][turn["best"]]["model"],
        "skills": list((state.get("plan") or {}).get("skills") or []),
        "failed": failed,
        "passed": checked(turn, requirements, "yes"),
        "text": shortened(experience["text"]),
        "next_prompt": experience["next_prompt"],
        "score": turn["score"],
        "score_after": following["score"] if following else None,
        "failed_after": checked(following, requirements, "no") if following else [],
        "passed_after": checked(following, requirements, "yes") if following else [],
        "at": now(),
        "record": no_record(),
        "text_indexed": indexed_text(state["prompt"], [item["question"] for item in failed]),
    }


def checked(turn: Round, requirements: Sequence[Requirement], wanted: AnswerValue) -> list[Checked]:
    """The requirements that the round's best image has this answer for."""
    answers = answers_of(turn)
    return [
        {"kind": requirement["kind"], "question": requirement["question"]}
        for requirement in requirements
        if answers.get(requirement["id"]) == wanted
    ]


def answers_of(turn: Round) -> dict[str, AnswerValue]:
    """The answers for the round's best image, by requirement."""
    return {answer["requirement"]: answer["answer"] for answer in turn["verdicts"][turn["best"]]["answers"]}


def credits_of(
    recall: Recall, rounds: Sequence[Round], requirements: Iterable[Requirement]
) -> list[TrackRecord]:
    """What the round that a recall was for says about each of its lessons, in their order.

    A lesson is about the requirements of its kinds that failed in the round before; for a first round, about
    all requirements of its kinds. It helped where all of these then passed, and hurt where one failed.
    """
    by_number = {turn["number"]: turn for turn in rounds}
    after = answers_of(by_number[recall["round"]])
    before = by_number.get(recall["round"] - 1)
    earlier = answers_of(before) if before else {}
    open_ones = [item for item in requirements if not before or earlier.get(item["id"]) == "no"]
    found: list[TrackRecord] = []
    for lesson in recall["lessons"]:
        answers = [after.get(item["id"]) for item in open_ones if item["kind"] in lesson["kinds"]]
        failed = "no" in answers
        met = bool(answers) and not failed and "yes" in answers
        found.append({"shown": 1, "helped": int(met), "hurt": int(failed)})
    return found
