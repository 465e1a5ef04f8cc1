"""Word-by-word differences between two prompts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

_WORD = re.compile(r"\S+\s*|\s+")
_MIN_SHARED = 0.25
"""Prompts with less in common are shown completely: a mixture of both would be unreadable."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a prompt: unchanged, new or removed."""

    kind: Literal["same", "new", "gone"]
    text: str


def diff_prompts(before: str, after: str) -> list[Piece]:
    """Return the words of `after`, marking new ones, and the removed words of `before`.

    The pieces that are not removed make up `after` exactly.
    """
    old, new = _WORD.findall(before), _WORD.findall(after)
    start = _common_prefix(old, new)
    end = _common_prefix(old[start:][::-1], new[start:][::-1])
    # Strip the common parts first: this makes comparing long prompts with few changes fast.
    middle_old, middle_new = old[start : len(old) - end], new[start : len(new) - end]
    matcher = SequenceMatcher(
        None, [_strip_space(w) for w in middle_old], [_strip_space(w) for w in middle_new], autojunk=False
    )
    pieces = [Piece("same", "".join(new[:start]))]
    if start + end < _MIN_SHARED * len(new) and matcher.ratio() < _MIN_SHARED:
        pieces.append(Piece("new", "".join(middle_new)))
    else:
        pieces += _diff_pieces(matcher, middle_old, middle_new)
    pieces.append(Piece("same", "".join(new[len(new) - end :])))
    return [piece for piece in pieces if piece.text]


def _diff_pieces(matcher: SequenceMatcher[str], old: list[str], new: list[str]) -> list[Piece]:
    pieces = []
    for tag, i, j, k, m in matcher.get_opcodes():
        if tag == "equal":
            pieces.append(Piece("same", "".join(new[k:m])))
            continue
        # Removed words come first, as in a corrected text.
        pieces += [Piece("gone", "".join(old[i:j])), Piece("new", "".join(new[k:m]))]
    return pieces


def _common_prefix(first: list[str], second: list[str]) -> int:
    """Count the words with which both begin."""
    pairs = zip(first, second, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _strip_space(word: str) -> str:
    """Strip trailing whitespace, which does not make a different word."""
    return word.rstrip()
