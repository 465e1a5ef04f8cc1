"""ArtiMuse in house: eight attributes, three replies."""

from __future__ import annotations

from collections.abc import Sequence

ATTRIBUTE_COUNT = 8
REPLY_COUNT = 3


def artimuse_score(replies: Sequence[Sequence[float]]) -> float:
    """Return the score in [0, 100]: the mean over replies of the mean over attributes.

    Raises `ValueError` unless there are three replies of eight ratings.
    """
    if len(replies) != REPLY_COUNT or any(len(reply) != ATTRIBUTE_COUNT for reply in replies):
        raise ValueError(f"It takes {REPLY_COUNT} replies of {ATTRIBUTE_COUNT} ratings.")
    return sum(sum(reply) / ATTRIBUTE_COUNT for reply in replies) / REPLY_COUNT
