"""CREA: the sum of six criteria from 1 to 5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

CRITERIA = (
    "originality",
    "expressiveness",
    "aesthetic",
    "technical",
    "unexpected",
    "interpretability",
)
MIN_RATING, MAX_RATING = 1, 5


def criterion_means(images: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return the mean of each criterion over images, in [1, 5]; empty for no images."""
    if not images:
        return {}
    columns = list(zip(*images, strict=True))
    return {name: sum(column) / len(column) for name, column in zip(CRITERIA, columns, strict=True)}


def crea_score(criteria: Mapping[str, float]) -> float | None:
    """Return the score in [6, 30]: the sum of the six means; None if one is missing."""
    if not all(name in criteria for name in CRITERIA):
        return None
    return sum(criteria[name] for name in CRITERIA)
