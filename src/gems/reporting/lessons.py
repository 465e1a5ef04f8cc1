"""Lessons of earlier runs in a run's report, with their outcome."""

from __future__ import annotations

from gems.memory.experience import lesson_credits
from gems.memory.retrieval import format_lesson
from gems.results import RunResult
from gems.types import Requirement


def lesson_lines(result: RunResult) -> list[str]:
    """Return one line per lesson and round: when it was used, its text, and whether it held."""
    judged = {round_["number"] for round_ in result.rounds}
    requirements: list[Requirement] = [
        {"id": item.id, "question": item.question, "kind": item.kind, "parents": item.parents}
        for item in result.requirements
    ]
    lines = []
    for recall in result.recalls:
        if recall["round"] not in judged:
            lines += [f"Round {recall['round']}: {format_lesson(lesson)}" for lesson in recall["lessons"]]
            continue
        credit_list = lesson_credits(recall, result.rounds, requirements)
        for lesson, credit in zip(recall["lessons"], credit_list, strict=True):
            outcome = "It held." if credit["helped"] else "It did not hold." if credit["hurt"] else ""
            lines.append(f"Round {recall['round']}: {format_lesson(lesson)} {outcome}".strip())
    return lines
