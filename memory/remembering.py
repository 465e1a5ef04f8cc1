"""Build experiences and lesson credits from a trajectory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gems.memory.experience import (
    Checked,
    StoredExperience,
    indexed_text,
    no_record,
    now,
    shorten,
)
from gems.types import AnswerValue, Experience, Recall, Requirement, Round, TrackRecord


def collect_experiences(state: Mapping[str, Any], run: str) -> list[StoredExperience]:
    """Return the experience of every round of a run's state that has one."""
    rounds = {round_data["number"]: round_data for round_data in state.get("rounds") or []}
    return [
        build_experience(
            state, run, experience, rounds[experience["round"]], rounds.get(experience["round"] + 1)
        )
        for experience in state.get("experiences") or []
        if experience["round"] in rounds
    ]


def build_experience(
    state: Mapping[str, Any], run: str, experience: Experience, round_data: Round, following: Round | None
) -> StoredExperience:
    """Build one round's experience, with the outcome of the next round if there was one."""
    requirements = state["requirements"]
    failed = requirements_with_answer(round_data, requirements, "no")
    return {
        "run": run,
        "round": round_data["number"],
        "prompt": state["prompt"],
        "generator": round_data["candidates"][round_data["best"]]["model"],
        "skills": list((state.get("plan") or {}).get("skills") or []),
        "failed": failed,
        "passed": requirements_with_answer(round_data, requirements, "yes"),
        "text": shorten(experience["text"]),
        "next_prompt": experience["next_prompt"],
        "score": round_data["score"],
        "score_after": following["score"] if following else None,
        "failed_after": requirements_with_answer(following, requirements, "no") if following else [],
        "passed_after": requirements_with_answer(following, requirements, "yes") if following else [],
        "at": now(),
        "record": no_record(),
        "text_indexed": indexed_text(state["prompt"], [item["question"] for item in failed]),
    }


def requirements_with_answer(
    round_data: Round, requirements: Sequence[Requirement], wanted: AnswerValue
) -> list[Checked]:
    """Return the requirements for which the round's best image has this answer."""
    answers = best_answers(round_data)
    return [
        {"kind": requirement["kind"], "question": requirement["question"]}
        for requirement in requirements
        if answers.get(requirement["id"]) == wanted
    ]


def best_answers(round_data: Round) -> dict[str, AnswerValue]:
    """Return the answers for the round's best image, by requirement."""
    return {
        answer["requirement"]: answer["answer"]
        for answer in round_data["verdicts"][round_data["best"]]["answers"]
    }


def lesson_credits(
    recall: Recall, rounds: Sequence[Round], requirements: Iterable[Requirement]
) -> list[TrackRecord]:
    """Return a credit for each lesson of a recall, in order.

    A lesson is about the requirements of its kinds that failed in the round before; for a first round, about
    all requirements of its kinds. It helped if all of these then passed, and hurt if one failed.
    """
    by_number = {round_data["number"]: round_data for round_data in rounds}
    after = best_answers(by_number[recall["round"]])
    before = by_number.get(recall["round"] - 1)
    earlier = best_answers(before) if before else {}
    open_ones = [item for item in requirements if not before or earlier.get(item["id"]) == "no"]
    found: list[TrackRecord] = []
    for lesson in recall["lessons"]:
        answers = [after.get(item["id"]) for item in open_ones if item["kind"] in lesson["kinds"]]
        failed = "no" in answers
        met = bool(answers) and not failed and "yes" in answers
        found.append({"shown": 1, "helped": int(met), "hurt": int(failed)})
    return found
