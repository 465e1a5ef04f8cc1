"""The main metric by category and by atomicity."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from gems.evals.rows import Score
from gems.evals.tables.entries import Entry, atomicity
from gems.evals.tables.measuring import mean_over_prompts
from gems.evals.tables.statistics import Mean
from gems.evals.tables.table import Scale, Table

Groups = Mapping[str, Mapping[str, Mean]]
"""Part -> entry's label -> mean."""


def parts_of(entries: Sequence[Entry], language: str, judge: str, metric: str) -> dict[str, Groups]:
    """The main metric by category and by atomicity, where there is more than one of them."""
    ways: dict[str, Callable[[Score], str]] = {
        "By category": lambda score: score.category,
        "By atomicity": lambda score: "" if atomicity(score) is None else str(atomicity(score)),
    }
    found: dict[str, Groups] = {}
    for title, way in ways.items():
        groups: defaultdict[str, dict[str, Mean]] = defaultdict(dict)
        for entry in entries:
            scores: defaultdict[str, list[Score]] = defaultdict(list)
            for score in entry.scores(language, judge, metric):
                scores[way(score)].append(score)
            for part, those in scores.items():
                mean = mean_over_prompts(those)
                if part and mean is not None:
                    groups[part][entry.label] = mean
        if len(groups) > 1:
            found[title] = {part: groups[part] for part in sorted(groups, key=_naturally)}
    return found


def _naturally(text: str) -> str:
    """Puts 3 before 10."""
    return re.sub(r"\d+", lambda number: number.group().zfill(8), text)


def part_table(title: str, groups: Groups, scale: Scale) -> Table:
    """One row for each part, a column for each entry."""
    labels = list(dict.fromkeys(label for means in groups.values() for label in means))
    rows = [[part, *(scale.mean(means.get(label)) for label in labels)] for part, means in groups.items()]
    return Table(title=title, columns=[title.removeprefix("By "), *labels], rows=rows)
