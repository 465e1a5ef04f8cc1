"""What earlier runs taught a run, and what came of it, as the page tells it."""

from __future__ import annotations

from gems.memory.remembering import lesson_credits
from gems.memory.retrieval import format_lesson
from gems.results import RunResult
from gems.types import Requirement


def lesson_lines(result: RunResult) -> list[str]:
    """One line per lesson and round: when it was used, what it says, and whether it held."""
    judged = {turn["number"] for turn in result.rounds}
    requirements: list[Requirement] = [
        {"id": item.id, "question": item.question, "kind": item.kind, "parents": item.parents}
        for item in result.requirements
    ]
    lines = []
    for given in result.recalls:
        if given["round"] not in judged:
            lines += [f"Round {given['round']}: {format_lesson(lesson)}" for lesson in given["lessons"]]
            continue
        merits = lesson_credits(given, result.rounds, requirements)
        for lesson, credit in zip(given["lessons"], merits, strict=True):
            came = "It held." if credit["helped"] else "It did not hold." if credit["hurt"] else ""
            lines.append(f"Round {given['round']}: {format_lesson(lesson)} {came}".strip())
    return lines
