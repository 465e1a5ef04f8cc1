"""Pairwise comparison of entries by prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from gems.evals.comparison.statistics import PairedComparison, adjust_holm, compare_paired
from gems.evals.comparison.table import Scale, Table, format_p
from gems.evals.tables.parting import Part

ALL_PARTS = "all"
"""The label for all samples."""
Values = Mapping[str, Mapping[str, float]]
"""Values by entry label and prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two entries; `first` came later on the command line.

    Attributes:
        first: Label of the first entry.
        second: Label of the second entry.
        part: `all`, `category/...` or `atomicity/...`.
        comparison: The result.
    """

    first: str
    second: str
    part: str
    comparison: PairedComparison


def compare_pairs(values: Values, part: str = ALL_PARTS) -> list[Pair]:
    """Compare each entry with each earlier one; pairs without a common prompt are left out."""
    return [
        Pair(first=first, second=second, part=part, comparison=comparison)
        for second, first in combinations(values, 2)
        if (comparison := compare_paired(values[first], values[second])) is not None
    ]


def compare_pairs_by_part(parts: Sequence[Part]) -> list[Pair]:
    """Compare the entries within each part."""
    return [pair for part in parts for pair in compare_pairs(part.values, f"{part.kind}/{part.name}")]


def pair_table(pairs: Sequence[Pair], scale: Scale) -> Table:
    """Build the table with one row per pair."""
    adjusted = adjust_holm([pair.comparison.p for pair in pairs])
    rows = [
        [
            f"{pair.first} against {pair.second}",
            scale.mean(pair.comparison.difference, signed=True),
            f"{pair.comparison.better} / {pair.comparison.worse}",
            format_p(pair.comparison.p),
            format_p(p_adjusted),
            pair.comparison.test,
            format_p(pair.comparison.wilcoxon),
        ]
        for pair, p_adjusted in zip(pairs, adjusted, strict=True)
    ]
    return Table(
        title="Paired comparison by prompt",
        columns=["pair", "difference", "better / worse", "p", "p, all pairs", "test", "p, Wilcoxon"],
        rows=rows,
        notes=[
            "Differences of means over the prompts with scores of both, in percentage points for shares. "
            "`p, all pairs` has Holm's correction for multiple comparisons; `pairs.csv` has the same for "
            "each part, without correction."
        ]
        if rows
        else (),
    )
