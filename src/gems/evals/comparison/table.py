"""Tables of strings, and number formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gems.evals.comparison.statistics import Mean

NONE = "–"  # noqa: RUF001 - the cell of a missing number
_MIN_P = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table; the first `names` columns are row labels, all others hold numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default_factory=tuple)
    names: int = 1

    def markdown(self) -> str:
        """Render the table as Markdown, with its title as a third-level heading."""
        lines = [f"### {_markdown_cell(self.title)}", "", _markdown_row(self.columns)]
        lines.append(_markdown_row(["---" if index < self.names else "---:" for index in range(len(self.columns))]))
        lines += [_markdown_row(row) for row in self.rows]
        return "\n".join([*lines, *(f"\n{_markdown_cell(note)}" for note in self.notes)])


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_markdown_cell(cell) for cell in cells)} |"


def _markdown_cell(text: str) -> str:
    """Escape a cell: no line ends, separators, HTML or list markers."""
    plain = " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*")
    return plain.replace("&", "&amp;").replace("<", "&lt;")


@dataclass(frozen=True, slots=True)
class Scale:
    """The number format of a metric: percent, or as it is."""

    percent: bool

    @classmethod
    def of(cls, values: Sequence[float]) -> Scale:
        """Use percent if all values are in [0, 1]."""
        return cls(bool(values) and all(0 <= value <= 1 for value in values))

    def number(self, value: float | None, *, signed: bool = False) -> str:
        """Format one decimal in percent, else three significant digits."""
        if value is None:
            return NONE
        sign = "+" if signed else ""
        return f"{100 * value:{sign}.1f}" if self.percent else f"{value:{sign}.3g}"

    def mean(self, found: Mean | None, *, signed: bool = False) -> str:
        """Format `87.5 (81.0 to 93.0)`, with the unit if there is one."""
        if found is None:
            return NONE
        text = self.number(found.value, signed=signed) + (" %" if self.percent and not signed else "")
        if found.low is None:
            return text
        low, high = (self.number(value, signed=signed) for value in (found.low, found.high))
        return f"{text} ({low} to {high})"


def format_p(p: float | None) -> str:
    """Format `0.012` or `< 0.001`."""
    if p is None:
        return NONE
    return f"< {_MIN_P}" if p < _MIN_P else f"{p:.3f}"


def format_amount(value: float | None) -> str:
    """Format `2.65` or `1,204`."""
    if value is None:
        return NONE
    return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"


def format_coverage(scored: int, expected: int) -> str:
    """Format `200 of 200` or `40 of 200, partial`."""
    return f"{scored:,} of {expected:,}{', partial' if scored < expected else ''}"
