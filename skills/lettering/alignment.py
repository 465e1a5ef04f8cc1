"""Text read in an image, from which wanted texts claim the best fit, each unit once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gems.skills.lettering.aligning import Match, align, edit_distance, joined_key
from gems.skills.lettering.units import Unit, join_units, split_units

_COMMON_WORDS = frozenset(
    {
        "and",
        "are",
        "but",
        "for",
        "from",
        "has",
        "have",
        "her",
        "his",
        "its",
        "not",
        "our",
        "the",
        "this",
        "that",
        "was",
        "will",
        "with",
        "you",
        "your",
    }
)
"""Words that unrelated text in an image is likely to contain."""
_DISTINCTIVE_LENGTH = 3
"""Letters from which a word found elsewhere counts as a repetition and not as chance."""


@dataclass(slots=True)
class Fit:
    """The units that a wanted text has claimed.

    Attributes:
        wanted: Its units.
        taken: Indices of the claimed read units, in reading order.
        found: The claimed text.
        distance: Normalised edit distance in [0, 1].
        missing: Units that were not found.
        wrong: Wanted unit and what was read in its position.
        doubled: Units that occur twice in the claimed text.
    """

    wanted: list[Unit]
    taken: list[int] = field(default_factory=list)
    found: str = ""
    distance: float = 1.0
    missing: list[str] = field(default_factory=list)
    wrong: list[tuple[str, str]] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)


class Page:
    """The text read in an image, and which units are unclaimed.

    Args:
        lines: In reading order.
    """

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
        left = self._unmatched(wanted, matches)
        left = self._pair_neighbours(fit, matches, left, taken)
        self._find_elsewhere(fit, left, taken)
        self._add_between(fit, taken)
        self._take(taken)
        fit.taken = sorted(taken)
        fit.found = join_units(self._read[index] for index in fit.taken)
        if taken:
            fit.distance = edit_distance(
                joined_key(wanted), joined_key([self._read[index] for index in fit.taken])
            )
        return fit

    def repeats(self, fit: Fit) -> bool:
        """Return whether the whole text occurs once more, besides what was claimed."""
        for start, end in self._runs(joined_key(fit.wanted)):
            fills = self._fills(start, end)
            if fills or end - start > 1 or len(joined_key(fit.wanted)) >= _DISTINCTIVE_LENGTH:
                return True
        return False

    def repeated(self, fit: Fit) -> list[str]:
        """Return the units of the text that occur once more anywhere."""
        if not fit.taken:
            return []
        keys = {unit.key for unit in fit.wanted if _is_distinctive(unit)}
        return [
            unit.shown for unit, free in zip(self._read, self._free, strict=True) if free and unit.key in keys
        ]

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

    def _fills(self, start: int, end: int) -> bool:
        """Return whether the units are all that their lines contain."""
        lines = {unit.line for unit in self._read[start:end]}
        return sum(unit.line in lines for unit in self._read) == end - start

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

    @staticmethod
    def _unmatched(wanted: Sequence[Unit], matches: Sequence[Match]) -> list[int]:
        matched = {index for match in matches for index in range(match.first, match.last)}
        return [index for index in range(len(wanted)) if index not in matched]

    def _pair_neighbours(
        self, fit: Fit, matches: Sequence[Match], left: Sequence[int], taken: set[int]
    ) -> list[int]:
        """Pair wrong characters of Chinese, Japanese or Korean by their position."""
        after = {match.last: match.end for match in matches}
        before = {match.first: match.start - 1 for match in matches}
        still: list[int] = []
        for index in left:
            place = after.get(index)
            if self._stands_for(fit.wanted[index], place, matches):
                after[index + 1] = self._pair(fit, index, place, taken) + 1
            else:
                still.append(index)
        for index in reversed(list(still)):
            place = before.get(index + 1)
            if self._stands_for(fit.wanted[index], place, matches):
                before[index] = self._pair(fit, index, place, taken) - 1
                still.remove(index)
        return still

    def _stands_for(self, wanted: Unit, place: int | None, matches: Sequence[Match]) -> bool:
        if place is None or not 0 <= place < len(self._read) or not self._free[place]:
            return False
        read = self._read[place]
        beside = any(self._read[match.start].line == read.line for match in matches)
        return beside and wanted.ideographic and read.ideographic

    def _pair(self, fit: Fit, index: int, place: int | None, taken: set[int]) -> int:
        assert place is not None  # noqa: S101 - checked by `_stands_for`
        fit.wrong.append((fit.wanted[index].shown, self._read[place].shown))
        self._free[place] = False
        taken.add(place)
        return place

    def _find_elsewhere(self, fit: Fit, left: Sequence[int], taken: set[int]) -> None:
        """Find units in another order; short and common words count only in the lines of the text."""
        lines = {self._read[index].line for index in taken}
        for index in left:
            unit = fit.wanted[index]
            for place, read in enumerate(self._read):
                near = read.line in lines or _is_distinctive(unit)
                if self._free[place] and read.key == unit.key and near:
                    self._take([place])
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
        return (
            0 <= index < len(self._read)
            and self._free[index]
            and self._read[index].line == line
            and self._read[index].key in keys
        )


def _is_distinctive(unit: Unit) -> bool:
    return (
        not unit.ideographic
        and len(unit.key) >= _DISTINCTIVE_LENGTH
        and unit.shown.casefold() not in _COMMON_WORDS
    )
