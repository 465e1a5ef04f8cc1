"""Soft-TIFA of GenEval2: means of answer probabilities."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence


def arithmetic_mean(answers: Sequence[float]) -> float:
    """Return the mean of a prompt's answer probabilities, in [0, 1]; raises `ValueError` for none."""
    if not answers:
        raise ValueError("There are no answers.")
    return sum(answers) / len(answers)


def geometric_mean(answers: Sequence[float]) -> float:
    """Return the geometric mean of a prompt's answers, in [0, 1]; a single 0 makes it 0."""
    if not answers:
        raise ValueError("There are no answers.")
    if min(answers) <= 0:
        return 0.0
    return math.exp(sum(math.log(answer) for answer in answers) / len(answers))


def soft_tifa_score(prompts: Sequence[float]) -> float | None:
    """Return the score in [0, 100]: the mean over prompts; None for no prompts."""
    return 100 * sum(prompts) / len(prompts) if prompts else None


def mean_by_skill(answers: Sequence[Sequence[float]], skills: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return the mean of all questions of each skill, in [0, 100], regardless of prompts."""
    found: dict[str, list[float]] = defaultdict(list)
    for values, names in zip(answers, skills, strict=True):
        for value, name in zip(values, names, strict=True):
            found[name].append(value)
    return {name: 100 * arithmetic_mean(values) for name, values in found.items()}


def mean_by_atomicity(answers: Sequence[Sequence[float]], atoms: Sequence[int]) -> dict[int, float]:
    """Return the mean of the prompts' geometric means by number of atoms, in [0, 100]."""
    found: dict[int, list[float]] = defaultdict(list)
    for values, count in zip(answers, atoms, strict=True):
        found[count].append(geometric_mean(values))
    return {count: 100 * arithmetic_mean(found[count]) for count in sorted(found)}
