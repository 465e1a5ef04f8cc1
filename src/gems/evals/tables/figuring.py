"""The benchmarks' own figures of several entries, each the mean over its seeds."""

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
        value: The mean, on the scale that the benchmark publishes.
        spread: Standard deviation over seeds; None for a single one.
        seeds: How many have a value.
        scored: Samples it rests on, of all seeds.
        expected: Samples that the whole benchmark has, of all seeds.
    """

    value: float
    spread: float | None
    seeds: int
    scored: int
    expected: int

    @property
    def is_partial(self) -> bool:
        """Whether it rests on less than the whole benchmark."""
        return self.scored < self.expected

    def said(self) -> str:
        """`63.5`, `63.5 ± 0.8`, `52.0*` where it is partial."""
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
    """One figure of several seeds; None where no seed has a value.

    Args:
        figures: The same one of each seed that has it.
        seeds: How many there should be.
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
    """An entry's figures by their names, in the benchmark's order."""
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
    """The figures as the benchmark publishes them; None where there are none."""
    found = {entry.label: figures_by_name(entry, language, judge) for entry in entries}
    names = dict.fromkeys(name for means in found.values() for name in means)
    if not names:
        return None
    rows = [
        [name, *(means[name].said() if name in means else NONE for means in found.values())] for name in names
    ]
    notes = []
    if any(mean.is_partial for means in found.values() for mean in means.values()):
        notes.append("* partial: rests on less than the whole benchmark, so it is not the benchmark's score.")
    if any(mean.spread is not None for means in found.values() for mean in means.values()):
        notes.append("± is the standard deviation over seeds.")
    return Table(title="The benchmark's own figures", columns=["figure", *found], rows=rows, notes=notes)
