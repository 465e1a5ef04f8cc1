"""SpatialGenEval: several replies vote about every answer."""

from __future__ import annotations

from collections.abc import Sequence

REPLY_COUNT = 5
"""Valid replies about each image."""
MAX_REPLIES = 25
"""Replies that are asked for before an image is given up."""
MIN_AGREEING = 4
"""Replies that must give the right letter."""
QUESTION_COUNT = 10
_BASIC_TYPES = 2


def vote(replies: Sequence[Sequence[str]], answers: Sequence[str], least: int = MIN_AGREEING) -> list[bool]:
    """Whether at least `least` replies give the right letter, for each question.

    Args:
        replies: Letters of each reply, one for each question.
        answers: The right letters.
        least: How many must agree.
    """
    return [sum(reply[index] == answer for reply in replies) >= least for index, answer in enumerate(answers)]


def accuracy_by_type(images: Sequence[Sequence[bool]]) -> list[float]:
    """The share of images, in [0, 1], with the right answer to each of the ten questions.

    Raises:
        ValueError: images have different numbers of questions.
    """
    return [sum(column) / len(column) for column in zip(*images, strict=True)]


def mean_accuracy(types: Sequence[float]) -> float | None:
    """The mean over the types of questions, in [0, 1]; None of none."""
    return sum(types) / len(types) if types else None


def basic_accuracy(types: Sequence[float]) -> float | None:
    """The mean over the first two types, objects and attributes; see `overall`."""
    return mean_accuracy(types[:_BASIC_TYPES])


def spatial_accuracy(types: Sequence[float]) -> float | None:
    """The mean over all other types; see `overall`."""
    return mean_accuracy(types[_BASIC_TYPES:])
