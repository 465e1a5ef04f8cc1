"""The benchmarks' own figures of entries, as means over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from gems.evals.comparison.entries import Entry
from gems.evals.comparison.table import NONE, Table
from gems.evals.records import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedMean:
    """A figure over seeds.

    Attributes:
        value: The mean, on the published scale.
        spread: Standard deviation over seeds; None for a single one.
        seeds: Number of seeds with a value.
        scored: Scored samples of all seeds.
        expected: Samples of the complete benchmark, times the seeds.
    """

    value: float
    spread: float | None
    seeds: int
    scored: int
    expected: int

    @property
    def is_partial(self) -> bool:
        """Whether samples are missing."""
        return self.scored < self.expected

    def format(self) -> str:
        """Format `63.5`, `63.5 ± 0.8`, or `52.0*` if partial."""
        spread = "" if self.spread is None else f" ± {_format_figure(self.spread)}"
        return f"{_format_figure(self.value)}{spread}{'*' if self.is_partial else ''}"


def _format_figure(value: float) -> str:
    return (
        "0"
        if not value
        else f"{value:.3f}"
        if abs(value) < 1
        else f"{value:.2f}"
        if abs(value) < 10
        else f"{value:.1f}"
    )


def mean_over_seeds(figures: Sequence[Figure], seeds: int) -> SeedMean | None:
    """Return the mean of one figure over seeds; None if no seed has a value.

    `seeds` is the expected number of seeds; missing ones make the result partial.
    """
    values = [figure.value for figure in figures if figure.value is not None]
    if not values:
        return None
    missing = seeds - len(figures)
    return SeedMean(
        value=fmean(values),
        spread=stdev(values) if len(values) > 1 else None,
        seeds=len(values),
        scored=sum(figure.scored for figure in figures),
        expected=sum(figure.expected for figure in figures) + missing * figures[0].expected,
    )


def figures_by_name(entry: Entry, language: str, judge: str) -> dict[str, SeedMean]:
    """Return an entry's figures by name, in the benchmark's order."""
    found = entry.figures(language, judge)
    names = dict.fromkeys(figure.name for figures in found for figure in figures)
    means = {
        name: mean_over_seeds(
            [one for figures in found for one in figures if one.name == name], len(entry.seeds)
        )
        for name in names
    }
    return {name: mean for name, mean in means.items() if mean is not None}


def figure_table(entries: Sequence[Entry], language: str, judge: str) -> Table | None:
    """Build the table of the published figures; None if there are none."""
    found = {entry.label: figures_by_name(entry, language, judge) for entry in entries}
    names = dict.fromkeys(name for means in found.values() for name in means)
    if not names:
        return None
    rows = [
        [name, *(means[name].format() if name in means else NONE for means in found.values())]
        for name in names
    ]
    notes = []
    if any(mean.is_partial for means in found.values() for mean in means.values()):
        notes.append("* partial: based on a part of the benchmark, so it is not the benchmark's score.")
    if any(mean.spread is not None for means in found.values() for mean in means.values()):
        notes.append("± is the standard deviation over seeds.")
    return Table(title="The benchmark's own figures", columns=["figure", *found], rows=rows, notes=notes)
