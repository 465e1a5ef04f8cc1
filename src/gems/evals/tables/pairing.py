"""Each two entries, prompt by prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from gems.evals.comparison.statistics import PairedComparison, adjust_holm, compare_paired
from gems.evals.comparison.table import Scale, Table, format_p
from gems.evals.tables.parting import Part

ALL_PARTS = "all"
"""The part that is no part."""
Values = Mapping[str, Mapping[str, float]]
"""An entry's label -> prompt -> value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two entries, the first of which came later on the command line.

    Attributes:
        first: Its label.
        second: The other one's.
        part: Of the benchmark: `all`, `category/...` or `atomicity/...`.
        found: How they compare.
    """

    first: str
    second: str
    part: str
    found: PairedComparison


def compare_pairs(values: Values, part: str = ALL_PARTS) -> list[Pair]:
    """Each entry against each one before it; those without a common prompt are left out."""
    return [
        Pair(first=first, second=second, part=part, found=found)
        for second, first in combinations(values, 2)
        if (found := compare_paired(values[first], values[second])) is not None
    ]


def compare_pairs_by_part(parts: Sequence[Part]) -> list[Pair]:
    """The same within each part."""
    return [pair for part in parts for pair in compare_pairs(part.values, f"{part.kind}/{part.name}")]


def pair_table(pairs: Sequence[Pair], scale: Scale) -> Table:
    """One row for each pair."""
    adjusted = adjust_holm([pair.found.p for pair in pairs])
    rows = [
        [
            f"{pair.first} against {pair.second}",
            scale.mean(pair.found.difference, signed=True),
            f"{pair.found.better} / {pair.found.worse}",
            format_p(pair.found.p),
            format_p(together),
            pair.found.test,
            format_p(pair.found.wilcoxon),
        ]
        for pair, together in zip(pairs, adjusted, strict=True)
    ]
    return Table(
        title="Pairs, prompt by prompt",
        columns=["pair", "difference", "better / worse", "p", "p, all pairs", "test", "p, Wilcoxon"],
        rows=rows,
        notes=[
            "Differences of the means over the prompts that both were scored on, in points where they are "
            "shares. `p, all pairs` is Holm's correction for looking at so many; `pairs.csv` has the same "
            "within each part, without it."
        ]
        if rows
        else (),
    )
