"""SpatialGenEval: votes of several replies."""

from __future__ import annotations

from collections.abc import Sequence

REPLY_COUNT = 5
"""Valid replies per image."""
MAX_REPLIES = 25
"""Replies before an image is given up."""
MIN_AGREEING = 4
"""Replies that must give the correct letter."""
QUESTION_COUNT = 10
_BASIC_TYPES = 2


def vote(replies: Sequence[Sequence[str]], answers: Sequence[str], least: int = MIN_AGREEING) -> list[bool]:
    """Return for each question whether at least `least` replies give the correct letter."""
    return [sum(reply[index] == answer for reply in replies) >= least for index, answer in enumerate(answers)]


def accuracy_by_type(images: Sequence[Sequence[bool]]) -> list[float]:
    """Return the share of images in [0, 1] with the correct answer, for each of the ten questions."""
    return [sum(column) / len(column) for column in zip(*images, strict=True)]


def mean_accuracy(types: Sequence[float]) -> float | None:
    """Return the mean over question types, in [0, 1]; None for no types."""
    return sum(types) / len(types) if types else None


def basic_accuracy(types: Sequence[float]) -> float | None:
    """Return the mean over the first two types, objects and attributes."""
    return mean_accuracy(types[:_BASIC_TYPES])


def spatial_accuracy(types: Sequence[float]) -> float | None:
    """Return the mean over all other types."""
    return mean_accuracy(types[_BASIC_TYPES:])
