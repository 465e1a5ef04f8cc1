"""Each two entries, prompt by prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from gems.evals.comparison.statistics import Paired, holm, paired
from gems.evals.comparison.table import Scale, Table, probability
from gems.evals.tables.parting import Part

WHOLE = "all"
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
    found: Paired


def pairs_of(values: Values, part: str = WHOLE) -> list[Pair]:
    """Each entry against each one before it; those without a common prompt are left out."""
    return [
        Pair(first=first, second=second, part=part, found=found)
        for second, first in combinations(values, 2)
        if (found := paired(values[first], values[second])) is not None
    ]


def pairs_of_parts(parts: Sequence[Part]) -> list[Pair]:
    """The same within each part."""
    return [pair for part in parts for pair in pairs_of(part.values, f"{part.kind}/{part.name}")]


def pair_table(pairs: Sequence[Pair], scale: Scale) -> Table:
    """One row for each pair."""
    adjusted = holm([pair.found.p for pair in pairs])
    rows = [
        [
            f"{pair.first} against {pair.second}",
            scale.mean(pair.found.difference, signed=True),
            f"{pair.found.better} / {pair.found.worse}",
            probability(pair.found.p),
            probability(together),
            pair.found.test,
            probability(pair.found.wilcoxon),
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
