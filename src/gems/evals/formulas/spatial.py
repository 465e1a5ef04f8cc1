"""SpatialGenEval: several replies vote about every answer."""

from __future__ import annotations

from collections.abc import Sequence

REPLIES = 5
"""Valid replies about each image."""
TRIES = 25
"""Replies that are asked for before an image is given up."""
AGREEING = 4
"""Replies that must give the right letter."""
QUESTIONS = 10
_BASIC = 2


def voted(replies: Sequence[Sequence[str]], answers: Sequence[str], least: int = AGREEING) -> list[bool]:
    """Whether at least `least` replies give the right letter, for each question.

    Args:
        replies: Letters of each reply, one for each question.
        answers: The right letters.
        least: How many must agree.
    """
    return [sum(reply[index] == answer for reply in replies) >= least for index, answer in enumerate(answers)]


def by_type(images: Sequence[Sequence[bool]]) -> list[float]:
    """The share of images, in [0, 1], with the right answer to each of the ten questions.

    Raises:
        ValueError: images have different numbers of questions.
    """
    return [sum(column) / len(column) for column in zip(*images, strict=True)]


def overall(types: Sequence[float]) -> float | None:
    """The mean over the types of questions, in [0, 1]; None of none."""
    return sum(types) / len(types) if types else None


def basic(types: Sequence[float]) -> float | None:
    """The mean over the first two types, objects and attributes; see `overall`."""
    return overall(types[:_BASIC])


def spatial(types: Sequence[float]) -> float | None:
    """The mean over all other types; see `overall`."""
    return overall(types[_BASIC:])
