"""Each two entries, prompt by prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from gems.evals.tables.measuring import Measured
from gems.evals.tables.statistics import Paired, holm, paired
from gems.evals.tables.table import Scale, Table, probability


def pairs_of(measured: Sequence[Measured]) -> dict[tuple[str, str], Paired]:
    """Each entry against each one before it, by their labels; those without a common prompt are left out."""
    found = {}
    for first, second in combinations(measured, 2):
        pair = paired(second.values, first.values)
        if pair is not None:
            found[second.entry.label, first.entry.label] = pair
    return found


def pair_table(pairs: Mapping[tuple[str, str], Paired], scale: Scale) -> Table:
    """One row for each pair."""
    adjusted = holm([pair.p for pair in pairs.values()])
    rows = [
        [
            f"{first} against {second}",
            scale.mean(pair.difference, signed=True),
            f"{pair.better} / {pair.worse}",
            probability(pair.p),
            probability(together),
            pair.test,
            probability(pair.wilcoxon),
        ]
        for ((first, second), pair), together in zip(pairs.items(), adjusted, strict=True)
    ]
    return Table(
        title="Pairs, prompt by prompt",
        columns=["pair", "difference", "better / worse", "p", "p, all pairs", "test", "p, Wilcoxon"],
        rows=rows,
        notes=[
            "Differences of the means over the prompts that both were scored on, in points where they are "
            "shares. `p, all pairs` is Holm's correction for looking at so many."
        ]
        if rows
        else (),
    )
