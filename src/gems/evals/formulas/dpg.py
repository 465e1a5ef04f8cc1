"""DPG-Bench: tile scores, with and without the official reader's treatment of the first question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from gems.evals.benchmarks.metrics import Parents, cascade_failures


def tile_score(answers: Mapping[int, float], parents: Parents) -> float:
    """Return the share of a tile's yes answers, in [0, 1], after cascading failed parents.

    Unknown parents are ignored. Raises `ZeroDivisionError` for no questions.
    """
    known = {question: [each for each in above if each in answers] for question, above in parents.items()}
    found = cascade_failures(answers, known)
    return sum(found.values()) / len(found)


def official_tile_score(answers: Mapping[int, float], parents: Parents, dropped: int | None) -> float | None:
    """Return the score of the official script; None if it fails and leaves the prompt out.

    `dropped` is the question that its reader drops because it skips the file's first row; None for none.
    """
    kept = {question: answer for question, answer in answers.items() if question != dropped}
    try:
        found = cascade_failures(
            kept, {question: above for question, above in parents.items() if question in kept}
        )
        return sum(found.values()) / len(found)
    except (KeyError, ZeroDivisionError):
        return None


def dpg_score(prompts: Iterable[Sequence[float]]) -> float | None:
    """Return the score in [0, 100]: the mean over prompts of the mean over tiles; None for no prompts."""
    means = [sum(tiles) / len(tiles) for tiles in prompts if tiles]
    return 100 * sum(means) / len(means) if means else None


def mean_by_category(
    answers: Iterable[Mapping[int, float]], tuples: Iterable[Mapping[int, str]]
) -> dict[str, float]:
    """Return the mean of raw answers by category, in [0, 100], over all questions.

    Answers are those of each prompt's last tile. `tuples` holds for instance `entity - whole (teapot)` by
    question; the part before the dash is the category.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for values, named in zip(answers, tuples, strict=True):
        for question, value in values.items():
            found[named[question].partition("(")[0].partition("-")[0].strip()].append(value)
    return {name: 100 * sum(values) / len(values) for name, values in found.items()}
