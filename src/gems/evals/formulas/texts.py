"""Texts that were to be read in a picture, compared with what was read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

_DROPPED_CHARACTERS = re.compile("[^\u4e00-\u9fa5a-zA-Z0-9\\sàâäéèêëîïôöùûüçÀÂÄÉÈÊËÎÏÔÖÙÛÜÇ]")
_CHINESE = re.compile("[\u4e00-\u9fff]")


def normalize_text(text: str) -> str:
    """Letters, digits, Chinese characters, French accents and single blanks of a text; the rest goes."""
    return " ".join(_DROPPED_CHARACTERS.sub("", text).split())


def is_chinese(text: str) -> bool:
    """Whether there is a Chinese character in a text."""
    return _CHINESE.search(text) is not None


@dataclass(frozen=True, slots=True)
class TextMatch:
    """How much of a text was read.

    Attributes:
        matched: Units that are in both, each as often as in the poorer one.
        wanted: Units that were to be read.
        found: Units that were read.
    """

    matched: int
    wanted: int
    found: int


def match_units(found: Iterable[Hashable], wanted: Iterable[Hashable]) -> TextMatch:
    """Compare as multisets, wherever the units stand."""
    read, given = Counter(found), Counter(wanted)
    return TextMatch((read & given).total(), given.total(), read.total())


def recall(matches: Sequence[TextMatch]) -> float | None:
    """The share in [0, 1] of all wanted units that were read; None where none were wanted."""
    wanted = sum(match.wanted for match in matches)
    return sum(match.matched for match in matches) / wanted if wanted else None


def precision(matches: Sequence[TextMatch]) -> float | None:
    """The share in [0, 1] of all units read that were wanted; None where none were read."""
    found = sum(match.found for match in matches)
    return sum(match.matched for match in matches) / found if found else None


def edit_distance(first: str, second: str) -> int:
    """The fewest characters to insert, delete or replace that make one text the other."""
    above = list(range(len(second) + 1))
    for row, letter in enumerate(first, 1):
        here = [row]
        for column, other in enumerate(second, 1):
            here.append(min(above[column] + 1, here[-1] + 1, above[column - 1] + (letter != other)))
        above = here
    return above[-1]
