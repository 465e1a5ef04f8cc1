"""What changed between two prompts, word by word."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

_WORDS = re.compile(r"\S+\s*|\s+")
_ALIKE = 0.25
"""Prompts with less in common than this are shown whole: a mixture of both could not be read."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a prompt and what became of it."""

    kind: Literal["same", "new", "gone"]
    text: str


def changes(before: str, after: str) -> list[Piece]:
    """The words of `after`, with those marked that are new, and those of `before` that are gone.

    The pieces that are not gone make up `after` exactly.
    """
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    start = _shared(old, new)
    end = _shared(old[start:][::-1], new[start:][::-1])
    # Cut off first: a long prompt of which a few words changed is compared at once.
    middle_old, middle_new = old[start : len(old) - end], new[start : len(new) - end]
    matcher = SequenceMatcher(
        None, [_bare(w) for w in middle_old], [_bare(w) for w in middle_new], autojunk=False
    )
    pieces = [Piece("same", "".join(new[:start]))]
    if start + end < _ALIKE * len(new) and matcher.ratio() < _ALIKE:
        pieces.append(Piece("new", "".join(middle_new)))
    else:
        pieces += _marked(matcher, middle_old, middle_new)
    pieces.append(Piece("same", "".join(new[len(new) - end :])))
    return [piece for piece in pieces if piece.text]


def _marked(matcher: SequenceMatcher[str], old: list[str], new: list[str]) -> list[Piece]:
    pieces = []
    for tag, i, j, k, m in matcher.get_opcodes():
        if tag == "equal":
            pieces.append(Piece("same", "".join(new[k:m])))
            continue
        # What is gone comes first, as in a corrected text.
        pieces += [Piece("gone", "".join(old[i:j])), Piece("new", "".join(new[k:m]))]
    return pieces


def _shared(first: list[str], second: list[str]) -> int:
    """How many words both begin with."""
    pairs = zip(first, second, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _bare(word: str) -> str:
    """Space behind a word does not make it another one."""
    return word.rstrip()
