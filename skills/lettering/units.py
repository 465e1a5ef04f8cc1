"""Split text into the units that are compared: words, and characters of Chinese, Japanese and Korean."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

_SIGNIFICANT_SIGNS = frozenset("&%@#+=$€£¥°♥★☆")
"""Signs that carry meaning and that OCR rarely loses."""
_BETWEEN_DIGITS = frozenset(".:/")
_LOOK_ALIKE = str.maketrans({"0": "o", "1": "l", "i": "l", "|": "l"})
_CJK = re.compile(
    "[\u3005-\u3007\u3040-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A word, or one Chinese, Japanese or Korean character.

    Attributes:
        shown: As written, without surrounding punctuation.
        key: The normalised form that is compared.
        line: Index of its line.
    """

    shown: str
    key: str
    line: int

    @property
    def ideographic(self) -> bool:
        """Whether it is a character of a script without blanks."""
        return _CJK.fullmatch(self.shown) is not None


def split_units(lines: Iterable[str]) -> list[Unit]:
    """Split lines of text into units, in order."""
    found = []
    for number, line in enumerate(lines):
        for word in _CJK.sub(r" \g<0> ", unicodedata.normalize("NFKC", line)).split():
            key = _comparison_key(word)
            if key:
                found.append(Unit(shown=_trim_punctuation(word), key=key, line=number))
    return found


def join_units(found: Iterable[Unit]) -> str:
    """Join units to text: blanks between words, none between characters of Chinese, Japanese and Korean."""
    text, before = "", None
    for unit in found:
        glued = before is None or (before.ideographic and unit.ideographic)
        text += unit.shown if glued else f" {unit.shown}"
        before = unit
    return text


def single_line(text: str) -> str:
    """Return the text on a single line."""
    return " ".join(text.split())


def _comparison_key(word: str) -> str:
    """Return the form of a word that is compared.

    Case and similar glyphs (O and 0; l, I, i and 1) are unified, since OCR cannot tell them apart in many
    typefaces. Punctuation is removed, except between digits: 3.50 is not 350.
    """
    folded = word.casefold()
    kept = [
        character
        for at, character in enumerate(folded)
        if _is_significant(character)
        or (
            character in _BETWEEN_DIGITS
            and folded[at - 1 : at].isdigit()
            and folded[at + 1 : at + 2].isdigit()
        )
    ]
    return "".join(kept).translate(_LOOK_ALIKE)


def _trim_punctuation(word: str) -> str:
    start, end = 0, len(word)
    while start < end and not _is_significant(word[start]):
        start += 1
    while end > start and not _is_significant(word[end - 1]):
        end -= 1
    return word[start:end] or word


def _is_significant(character: str) -> bool:
    return (
        character.isalnum()
        or character in _SIGNIFICANT_SIGNS
        or unicodedata.category(character).startswith("M")
    )
