"""Match wanted text with the lines that were read."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rapidfuzz.distance import Levenshtein

_SIGNIFICANT_SIGNS = frozenset("&%@#+=$€£¥°♥★☆")
"""Signs that carry meaning and that OCR rarely loses."""
_SEPARATOR = re.compile(r"(?<!\d)[.:/]|[.:/](?!\d)")
"""A sign that carries meaning only between digits."""
_LOOK_ALIKE = str.maketrans({"0": "o", "1": "l", "i": "l", "|": "l"})
_CJK = re.compile(
    "[\u3005-\u3007\u3040-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)
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
_COMMON = "and are but for from has have her his its not our the this that was will with you your"
_COMMON_WORDS = frozenset(_COMMON.split())
"""Words that unrelated text in an image is likely to contain."""
_DISTINCTIVE_LENGTH = 3
"""Letters from which a word found elsewhere counts as a repetition and not as chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A word, or one Chinese, Japanese or Korean character: as shown, and in the form that is compared."""

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
    kept = _SEPARATOR.sub("", word.casefold())
    return "".join(c for c in kept if _is_significant(c) or c in ".:/").translate(_LOOK_ALIKE)


def _trim_punctuation(word: str) -> str:
    return word.strip("".join(c for c in word if not _is_significant(c))) or word


def _is_significant(character: str) -> bool:
    is_mark = unicodedata.category(character).startswith("M")
    return character.isalnum() or character in _SIGNIFICANT_SIGNS or is_mark


@dataclass(frozen=True, slots=True)
class Match:
    """Wanted units `first` to `last` are the read units `start` to `end`, ends excluded.

    `distance` is the normalised edit distance in [0, 1].
    """

    first: int
    last: int
    start: int
    end: int
    distance: float


def joined_key(found: Sequence[Unit]) -> str:
    """Join the keys of units; blanks do not count, since OCR loses and invents them."""
    return "".join(unit.key for unit in found)


def align(wanted: Sequence[Unit], read: Sequence[Unit], free: Sequence[bool]) -> list[Match]:
    """Return the cheapest alignment, in order, of the wanted units with the read ones that are `free`."""
    # best[i][j]: cost of aligning the first i wanted units with the first j read ones.
    best: list[list[float]] = [[0.0] * (len(read) + 1)]
    came: list[list[Match | None]] = [[None] * (len(read) + 1)]
    for i in range(1, len(wanted) + 1):
        best.append([float(i)] * (len(read) + 1))
        came.append([None] * (len(read) + 1))
        # After the last wanted unit the rest of the image is skipped at no cost.
        skip = 0.0 if i == len(wanted) else _SKIP_COST
        for j in range(1, len(read) + 1):
            best[i][j] = min(best[i][j - 1] + skip, best[i - 1][j] + 1)
            for match, extra in _candidates(i, j, wanted, read, free):
                cost = best[match.first][match.start] + extra
                if cost < best[i][j]:
                    best[i][j], came[i][j] = cost, match
    return _trace_back(len(wanted), len(read), best, came)


def _candidates(
    i: int, j: int, wanted: Sequence[Unit], read: Sequence[Unit], free: Sequence[bool]
) -> Iterator[tuple[Match, float]]:
    """Yield the matches that end with wanted unit i and read unit j, with their costs."""
    word, other = wanted[i - 1], read[j - 1]
    if not free[j - 1]:
        return
    if word.key == other.key:
        yield Match(i - 1, i, j - 1, j, 0.0), 0.0
        return
    if word.ideographic or other.ideographic:
        return
    off = Levenshtein.normalized_distance(word.key, other.key)
    if off <= CLOSE:
        yield Match(i - 1, i, j - 1, j, off), off
    for count in range(2, min(_MAX_RUN_TOGETHER, i) + 1):
        off = _joined_distance(wanted[i - count : i], [other])
        if off <= _SAME_LETTERS:
            yield Match(i - count, i, j - 1, j, off), off * count + _RUN_TOGETHER_COST
    for count in range(2, min(_MAX_PIECES, j) + 1):
        pieces = read[j - count : j]
        if all(free[j - count : j]) and pieces[0].line == other.line:
            off = _joined_distance([word], pieces)
            if off <= _SAME_LETTERS:
                yield Match(i - 1, i, j - count, j, off), off + _RUN_TOGETHER_COST


def _joined_distance(wanted: Sequence[Unit], read: Sequence[Unit]) -> float:
    if any(unit.ideographic for unit in (*wanted, *read)):
        return 1.0
    one, other = joined_key(wanted), joined_key(read)
    lengths = abs(len(one) - len(other)) / max(len(one), len(other))
    return 1.0 if lengths > _SAME_LETTERS else Levenshtein.normalized_distance(one, other)


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


@dataclass(slots=True)
class Fit:
    """The text that a wanted text has claimed, and its differences; see `verifier.Comparison`."""

    wanted: list[Unit]
    found: str = ""
    distance: float = 1.0
    missing: list[str] = field(default_factory=list)
    wrong: list[tuple[str, str]] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)


class Page:
    """The lines read in an image, in reading order, and which units are unclaimed."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = list(lines)
        self._read = split_units(lines)
        self._free = [True] * len(self._read)

    def holds(self, wanted: Sequence[Unit]) -> bool:
        """Return whether the units occur unchanged, one after the other."""
        return bool(self._runs(joined_key(wanted)))

    def claim(self, wanted: list[Unit]) -> Fit:
        """Claim the best fit; it is not available to later texts."""
        fit = Fit(wanted)
        matches = align(wanted, self._read, self._free)
        taken = {index for match in matches for index in range(match.start, match.end)}
        self._note_wrong(fit, matches)
        self._take(taken)
        left = self._pair_neighbours(fit, matches, taken)
        self._find_elsewhere(fit, left, taken)
        self._add_between(fit, taken)
        self._take(taken)
        claimed = [self._read[index] for index in sorted(taken)]
        fit.found = join_units(claimed)
        if claimed:
            fit.distance = Levenshtein.normalized_distance(joined_key(wanted), joined_key(claimed))
        return fit

    def repeats(self, fit: Fit) -> bool:
        """Return whether the whole text occurs once more, besides what was claimed."""
        for start, end in self._runs(joined_key(fit.wanted)):
            lines = {unit.line for unit in self._read[start:end]}
            fills_lines = sum(unit.line in lines for unit in self._read) == end - start
            if fills_lines or end - start > 1 or len(joined_key(fit.wanted)) >= _DISTINCTIVE_LENGTH:
                return True
        return False

    def repeated(self, fit: Fit) -> list[str]:
        """Return the units of the text that occur once more anywhere."""
        if not fit.found:
            return []
        keys = {unit.key for unit in fit.wanted if _is_distinctive(unit)}
        return [unit.shown for unit, free in zip(self._read, self._free, strict=True) if free and unit.key in keys]

    def _take(self, indices: Iterable[int]) -> None:
        for index in indices:
            self._free[index] = False

    def _runs(self, whole: str) -> list[tuple[int, int]]:
        """Return the ranges of consecutive free units that make up the whole text."""
        found = []
        for start in range(len(self._read)):
            end, text = start, ""
            while end < len(self._read) and self._free[end] and len(text) < len(whole):
                text += self._read[end].key
                end += 1
            if whole and text == whole:
                found.append((start, end))
        return found

    def _note_wrong(self, fit: Fit, matches: Sequence[Match]) -> None:
        for match in matches:
            if match.distance == 0:
                continue
            wanted, read = fit.wanted[match.first : match.last], self._read[match.start : match.end]
            times = len(joined_key(read)) // len(joined_key(wanted))
            if times > 1 and joined_key(read) == joined_key(wanted) * times:
                fit.doubled.append(join_units(wanted))
            else:
                fit.wrong.append((join_units(wanted), join_units(read)))

    def _pair_neighbours(self, fit: Fit, matches: Sequence[Match], taken: set[int]) -> list[int]:
        """Pair wrong characters of Chinese, Japanese or Korean by their position; return unmatched units."""
        matched = {index for match in matches for index in range(match.first, match.last)}
        left = [index for index in range(len(fit.wanted)) if index not in matched]
        lines = {self._read[match.start].line for match in matches}
        after = {match.last: match.end for match in matches}
        before = {match.first - 1: match.start - 1 for match in matches}
        for step, beside in ((1, after), (-1, before)):
            for index in left[::step]:
                place = beside.get(index, -1)
                wanted, read = fit.wanted[index], self._read[place] if self._is_free(place) else None
                if read and read.line in lines and wanted.ideographic and read.ideographic:
                    fit.wrong.append((wanted.shown, read.shown))
                    self._free[place] = False
                    taken.add(place)
                    left.remove(index)
                    beside[index + step] = place + step
        return left

    def _is_free(self, index: int) -> bool:
        return 0 <= index < len(self._read) and self._free[index]

    def _find_elsewhere(self, fit: Fit, left: Sequence[int], taken: set[int]) -> None:
        """Find units in another order; short and common words count only in the lines of the text."""
        lines = {self._read[index].line for index in taken}
        for unit in (fit.wanted[index] for index in left):
            for place, read in enumerate(self._read):
                near = read.line in lines or _is_distinctive(unit)
                if self._free[place] and read.key == unit.key and near:
                    self._free[place] = False
                    taken.add(place)
                    break
            else:
                fit.missing.append(unit.shown)

    def _add_between(self, fit: Fit, taken: set[int]) -> None:
        """Add the units between claimed units of a line, and repetitions next to them."""
        keys = {unit.key for unit in fit.wanted}
        for line in {self._read[index].line for index in taken}:
            inside = sorted(index for index in taken if self._read[index].line == line)
            start, end = inside[0], inside[-1]
            while self._repetition(start - 1, line, keys):
                start -= 1
            while self._repetition(end + 1, line, keys):
                end += 1
            for index in range(start, end + 1):
                if self._free[index]:
                    taken.add(index)
                    if self._read[index].key in keys:
                        fit.doubled.append(self._read[index].shown)

    def _repetition(self, index: int, line: int, keys: set[str]) -> bool:
        read = self._read[index] if self._is_free(index) else None
        return read is not None and read.line == line and read.key in keys


def _is_distinctive(unit: Unit) -> bool:
    return not unit.ideographic and len(unit.key) >= _DISTINCTIVE_LENGTH and unit.shown.casefold() not in _COMMON_WORDS
