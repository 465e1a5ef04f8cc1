"""The main metric by category and by atomicity."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gems.evals.comparison.entries import Entry, get_atomicity, mean_by_prompt
from gems.evals.comparison.statistics import Mean, mean_with_interval
from gems.evals.comparison.table import Scale, Table
from gems.evals.records import Score

_GROUPINGS: Mapping[str, Callable[[Score], str]] = {
    "category": lambda score: score.category,
    "atomicity": lambda score: "" if get_atomicity(score) is None else str(get_atomicity(score)),
}
"""Kind of part -> part of a score, empty for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a benchmark.

    Attributes:
        kind: `category` or `atomicity`.
        name: For instance `counting` or `3`.
        values: The main metric by entry label and prompt.
        means: Its mean by entry label.
    """

    kind: str
    name: str
    values: Mapping[str, Mapping[str, float]]
    means: Mapping[str, Mean]


def split_parts(entries: Sequence[Entry], language: str, judge: str, metric: str) -> list[Part]:
    """Return all parts in order; kinds with a single part are left out."""
    found: list[Part] = []
    for kind, group_of in _GROUPINGS.items():
        groups: defaultdict[str, dict[str, dict[str, float]]] = defaultdict(dict)
        for entry in entries:
            for name, scores in _group_scores(entry.scores(language, judge, metric), group_of).items():
                if values := mean_by_prompt(scores):
                    groups[name][entry.label] = values
        if len(groups) > 1:
            found += [_make_part(kind, name, groups[name]) for name in sorted(groups, key=_natural_key)]
    return found


def _group_scores(scores: Sequence[Score], group_of: Callable[[Score], str]) -> dict[str, list[Score]]:
    groups: defaultdict[str, list[Score]] = defaultdict(list)
    for score in scores:
        if name := group_of(score):
            groups[name].append(score)
    return dict(groups)


def _make_part(kind: str, name: str, values: Mapping[str, Mapping[str, float]]) -> Part:
    means = {label: mean_with_interval(list(found.values())) for label, found in values.items()}
    return Part(kind=kind, name=name, values=values, means=means)


def _natural_key(text: str) -> str:
    """Return a sort key that puts 3 before 10."""
    return re.sub(r"\d+", lambda number: number.group().zfill(8), text)


def part_tables(parts: Sequence[Part], scale: Scale) -> list[Table]:
    """Build one table per kind, with a row per part and a column per entry."""
    tables = []
    for kind in dict.fromkeys(part.kind for part in parts):
        same_kind = [part for part in parts if part.kind == kind]
        labels = list(dict.fromkeys(label for part in same_kind for label in part.means))
        rows = [[part.name, *(scale.mean(part.means.get(label)) for label in labels)] for part in same_kind]
        tables.append(Table(title=f"By {kind}", columns=[kind, *labels], rows=rows))
    return tables
