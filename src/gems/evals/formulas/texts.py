"""Compare the text read in an image with the expected text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

_DROPPED_CHARACTERS = re.compile("[^\u4e00-\u9fa5a-zA-Z0-9\\sàâäéèêëîïôöùûüçÀÂÄÉÈÊËÎÏÔÖÙÛÜÇ]")
_CHINESE = re.compile("[\u4e00-\u9fff]")


def normalize_text(text: str) -> str:
    """Keep letters, digits, Chinese characters, French accents and single spaces."""
    return " ".join(_DROPPED_CHARACTERS.sub("", text).split())


def is_chinese(text: str) -> bool:
    """Whether a text contains a Chinese character."""
    return _CHINESE.search(text) is not None


@dataclass(frozen=True, slots=True)
class TextMatch:
    """The overlap of two texts.

    Attributes:
        matched: Units in both, each counted as often as in the text with fewer.
        wanted: Expected units.
        found: Units that were read.
    """

    matched: int
    wanted: int
    found: int


def match_units(found: Iterable[Hashable], wanted: Iterable[Hashable]) -> TextMatch:
    """Compare two texts as multisets of units."""
    read, given = Counter(found), Counter(wanted)
    return TextMatch((read & given).total(), given.total(), read.total())


def recall(matches: Sequence[TextMatch]) -> float | None:
    """Return the share in [0, 1] of expected units that were read; None if none were expected."""
    wanted = sum(match.wanted for match in matches)
    return sum(match.matched for match in matches) / wanted if wanted else None


def precision(matches: Sequence[TextMatch]) -> float | None:
    """Return the share in [0, 1] of read units that were expected; None if none were read."""
    found = sum(match.found for match in matches)
    return sum(match.matched for match in matches) / found if found else None


def edit_distance(first: str, second: str) -> int:
    """Return the minimum number of inserted, deleted or replaced characters."""
    above = list(range(len(second) + 1))
    for row, letter in enumerate(first, 1):
        here = [row]
        for column, other in enumerate(second, 1):
            here.append(min(above[column] + 1, here[-1] + 1, above[column - 1] + (letter != other)))
        above = here
    return above[-1]
