"""Compare wanted text with the text that was read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gems.skills.lettering.alignment import Fit, Page, single_line, split_units

_MAX_LINE = 300
_MAX_FAULTS = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Result of comparing one wanted text.

    Attributes:
        text: The wanted text.
        found: The read text that fits best, on one line; empty if none does.
        distance: Normalised edit distance in [0, 1] between the two; 0 is correct, 1 if nothing was found.
        recall: Share of the wanted units that were read, in [0, 1], in any order.
        missing: Units that were not read.
        wrong: A wanted unit and what was read in its position, such as `("STORE", "STROE")`.
        doubled: Units, or the whole text, that occur more often than wanted.
    """

    text: str
    found: str
    distance: float
    recall: float
    missing: tuple[str, ...] = ()
    wrong: tuple[tuple[str, str], ...] = ()
    doubled: tuple[str, ...] = ()

    @property
    def is_met(self) -> bool:
        """Whether the text is present, spelled as wanted, without repetitions."""
        return self.distance == 0 and not self.doubled


def compare(wanted: Sequence[str], lines: Sequence[str]) -> list[Comparison]:
    """Return one comparison per wanted text, in order.

    Case, punctuation, blanks, hyphens and line breaks are ignored. A text may span several lines, and each
    unit read counts for one wanted text only. Other words cost nothing unless they are within a line of a
    wanted text or repeat it.

    Args:
        wanted: The texts that the image should contain.
        lines: The lines that were read, in reading order.

    Source: LongText-Bench (X-Omni) counts matches of words, for Chinese of characters, as multisets, and
    ignores extra text; OneIG-Bench (NeurIPS 2025) combines edit distance, exact texts and word recall. Both
    pool over many images and distinguish less: what is missing, wrong or doubled in one image is ours.
    """
    page = Page(lines)
    fits: dict[int, Fit] = {}
    for number in _claim_order(wanted, page):
        fits[number] = page.claim(split_units(wanted[number].splitlines()))
    # Repetitions are known only after every text has claimed its units.
    return [_build_comparison(text, fits[number], page) for number, text in enumerate(wanted)]


def told(comparison: Comparison) -> str:
    """Format a comparison on one line of at most 300 characters: wanted text, read text and errors."""
    faults = _shorten("; ".join(_list_faults(comparison)), _MAX_FAULTS)
    room = (_MAX_LINE - len(faults) - len('wanted ""; read ""; ')) // 2
    wanted = f'wanted "{_shorten(single_line(comparison.text), room)}"'
    if not comparison.found:
        return f"{wanted}; nothing like it was read"
    read = f'{wanted}; read "{_shorten(comparison.found, room)}"'
    return f"{read}; {faults}" if faults else read


def _claim_order(wanted: Sequence[str], page: Page) -> list[int]:
    """Return the order of claims: exact matches first, longer texts before those that they contain."""
    found = [split_units(text.splitlines()) for text in wanted]
    return sorted(range(len(wanted)), key=lambda n: (not page.holds(found[n]), -len(found[n]), n))


def _build_comparison(text: str, fit: Fit, page: Page) -> Comparison:
    if not fit.wanted:
        return _compare_signs(text, page)
    repeated = page.repeated(fit)
    return Comparison(
        text=text,
        found=fit.found,
        distance=fit.distance,
        recall=1 - (len(fit.missing) + len(fit.wrong)) / len(fit.wanted),
        missing=tuple(fit.missing),
        wrong=tuple(fit.wrong),
        doubled=(single_line(text),) if page.repeats(fit) else tuple(dict.fromkeys(fit.doubled + repeated)),
    )


def _compare_signs(text: str, page: Page) -> Comparison:
    """Compare a text such as "?", which is present or not."""
    there = any(single_line(text) in line for line in page.lines)
    found, missing = (single_line(text), ()) if there else ("", (single_line(text),))
    return Comparison(text=text, found=found, distance=1.0 - there, recall=float(there), missing=missing)


def _list_faults(comparison: Comparison) -> list[str]:
    faults = []
    if comparison.missing:
        faults.append("missing: " + ", ".join(f'"{unit}"' for unit in comparison.missing))
    if comparison.wrong:
        faults.append("wrong: " + ", ".join(f'"{read}" for "{unit}"' for unit, read in comparison.wrong))
    if comparison.doubled:
        faults.append("doubled: " + ", ".join(f'"{unit}"' for unit in comparison.doubled))
    if not faults and not comparison.is_met:
        faults.append("words in another order, or others between them")
    return faults


def _shorten(text: str, length: int) -> str:
    """Shorten in the middle: the start identifies the text, and errors are often at the end."""
    if len(text) <= length:
        return text
    kept = length - 1
    return f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
