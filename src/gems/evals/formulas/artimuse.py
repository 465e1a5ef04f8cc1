"""ArtiMuse in house: eight attributes, asked about three times."""

from __future__ import annotations

from collections.abc import Sequence

ATTRIBUTES = 8
REPLIES = 3


def image_score(replies: Sequence[Sequence[float]]) -> float:
    """The score of an image in [0, 100]: the mean over replies of the mean over attributes.

    Args:
        replies: Ratings in [0, 100], one for each attribute.

    Raises:
        ValueError: there are not three replies of eight ratings.
    """
    if len(replies) != REPLIES or any(len(reply) != ATTRIBUTES for reply in replies):
        raise ValueError(f"It takes {REPLIES} replies of {ATTRIBUTES} ratings.")
    return sum(sum(reply) / ATTRIBUTES for reply in replies) / REPLIES
