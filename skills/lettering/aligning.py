"""Align wanted text with the units read in an image, wherever they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from gems.errors import MissingExtraError
from gems.skills.lettering.units import Unit

CLOSE = 0.5
"""Normalised edit distance up to which two words count as one misspelt word."""
_SAME_LETTERS = 0.25
"""The same for words that OCR joined or split, which must look the same."""
_SKIP_COST = 0.02
"""Cost of skipping a read unit, in missing units; keeps a match from spanning the image."""
_RUN_TOGETHER_COST = 0.01
"""Cost of joined words, so that single words are preferred."""
_MAX_RUN_TOGETHER = 4
_MAX_PIECES = 3


@dataclass(frozen=True, slots=True)
class Match:
    """Wanted units `first` to `last` are the read units `start` to `end`, ends excluded.

    Attributes:
        first: Index of a wanted unit.
        last: Index after the last one.
        start: Index of a read unit.
        end: Index after the last one.
        distance: Normalised edit distance in [0, 1]; 0 if equal.
    """

    first: int
    last: int
    start: int
    end: int
    distance: float


def joined_key(found: Sequence[Unit]) -> str:
    """Join the keys of units; blanks do not count, since OCR loses and invents them."""
    return "".join(unit.key for unit in found)


def edit_distance(one: str, other: str) -> float:
    """Return the normalised edit distance in [0, 1].

    Raises `MissingExtraError` if rapidfuzz is not installed.
    """
    return _levenshtein()(one, other)


@cache
def _levenshtein() -> Callable[[str, str], float]:
    # Imported here, since the rest of the package is used without the extra too.
    try:
        from rapidfuzz.distance import Levenshtein  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("Comparing the text in pictures", "ocr") from error
    return Levenshtein.normalized_distance


def align(wanted: Sequence[Unit], read: Sequence[Unit], free: Sequence[bool]) -> list[Match]:
    """Return the cheapest alignment of the wanted units with the read ones, in order.

    `free` tells which read units are still available.
    """
    # best[i][j]: cost of aligning the first i wanted units with the first j read ones.
    best: list[list[float]] = [[0.0] * (len(read) + 1)]
    came: list[list[Match | None]] = [[None] * (len(read) + 1)]
    for i in range(1, len(wanted) + 1):
        best.append([float(i)] * (len(read) + 1))
        came.append([None] * (len(read) + 1))
        for j in range(1, len(read) + 1):
            _fill_cell(i, j, _Table(wanted, read, free, best, came))
    return _trace_back(len(wanted), len(read), best, came)


@dataclass(frozen=True, slots=True)
class _Table:
    wanted: Sequence[Unit]
    read: Sequence[Unit]
    free: Sequence[bool]
    best: list[list[float]]
    came: list[list[Match | None]]


def _fill_cell(i: int, j: int, search: _Table) -> None:
    best = search.best
    # After the last wanted unit the rest of the image is skipped at no cost.
    passing = best[i][j - 1] + (0.0 if i == len(search.wanted) else _SKIP_COST)
    cheapest = min(passing, best[i - 1][j] + 1)
    match = None
    if search.free[j - 1]:
        for candidate, extra in _candidates(i, j, search):
            cost = best[candidate.first][candidate.start] + extra
            if cost < cheapest:
                cheapest, match = cost, candidate
    best[i][j], search.came[i][j] = cheapest, match


def _candidates(i: int, j: int, search: _Table) -> Iterator[tuple[Match, float]]:
    """Yield the matches that end with wanted unit i and read unit j, with their costs."""
    word, other = search.wanted[i - 1], search.read[j - 1]
    if word.key == other.key:
        yield Match(i - 1, i, j - 1, j, 0.0), 0.0
        return
    if word.ideographic or other.ideographic:
        return
    off = edit_distance(word.key, other.key)
    if off <= CLOSE:
        yield Match(i - 1, i, j - 1, j, off), off
    for count in range(2, min(_MAX_RUN_TOGETHER, i) + 1):
        off = _joined_distance(search.wanted[i - count : i], [other])
        if off <= _SAME_LETTERS:
            yield Match(i - count, i, j - 1, j, off), off * count + _RUN_TOGETHER_COST
    for count in range(2, min(_MAX_PIECES, j) + 1):
        pieces = search.read[j - count : j]
        if all(search.free[j - count : j]) and pieces[0].line == other.line:
            off = _joined_distance([word], pieces)
            if off <= _SAME_LETTERS:
                yield Match(i - 1, i, j - count, j, off), off + _RUN_TOGETHER_COST


def _joined_distance(wanted: Sequence[Unit], read: Sequence[Unit]) -> float:
    if any(unit.ideographic for unit in (*wanted, *read)):
        return 1.0
    one, other = joined_key(wanted), joined_key(read)
    lengths = abs(len(one) - len(other)) / max(len(one), len(other))
    return 1.0 if lengths > _SAME_LETTERS else edit_distance(one, other)


def _trace_back(i: int, j: int, best: list[list[float]], came: list[list[Match | None]]) -> list[Match]:
    matches: list[Match] = []
    while i > 0 and j > 0:
        match = came[i][j]
        if match is not None:
            matches.append(match)
            i, j = match.first, match.start
        elif best[i][j] == best[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return matches[::-1]
