"""DPG-Bench: the score of a tile, with and without what the official reader does to the first question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from gems.evals.formulas.dependencies import Parents, cascade_failures


def tile_score(answers: Mapping[int, float], parents: Parents) -> float:
    """The share of a tile's questions that hold, in [0, 1], after failed parents have taken theirs along.

    A parent that is not among the questions is passed over.

    Raises:
        ZeroDivisionError: there are no questions.
    """
    known = {question: [each for each in above if each in answers] for question, above in parents.items()}
    found = cascade_failures(answers, known)
    return sum(found.values()) / len(found)


def official_tile_score(answers: Mapping[int, float], parents: Parents, dropped: int | None) -> float | None:
    """The same as the official script computes it; None where it fails at the prompt and leaves it out.

    Args:
        answers: 0 or 1 by question.
        parents: See `Parents`.
        dropped: The question that the reader drops, since it skips the file's first row; None for none.
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
    """The score in [0, 100]: the mean over prompts of the mean over their tiles; None of none."""
    means = [sum(tiles) / len(tiles) for tiles in prompts if tiles]
    return 100 * sum(means) / len(means) if means else None


def mean_by_category(
    answers: Iterable[Mapping[int, float]], tuples: Iterable[Mapping[int, str]]
) -> dict[str, float]:
    """The mean of raw answers of each category, in [0, 100], over all questions of all prompts.

    Args:
        answers: Of the last tile of each prompt, 0 or 1 by question.
        tuples: Of each prompt, for instance `entity - whole (teapot)` by question; the word before the dash
            is the category.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for values, named in zip(answers, tuples, strict=True):
        for question, value in values.items():
            found[named[question].partition("(")[0].partition("-")[0].strip()].append(value)
    return {name: 100 * sum(values) / len(values) for name, values in found.items()}
