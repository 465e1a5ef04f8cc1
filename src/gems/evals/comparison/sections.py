"""Harnesses side by side: for each benchmark, language and judge one section, so that judges never mix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gems.errors import RequestError
from gems.evals.comparison.entries import Drawn, Entry, entries_of, per_sample
from gems.evals.comparison.statistics import Mean, mean_of
from gems.evals.comparison.table import Scale, Table
from gems.evals.judge import OFFICIAL
from gems.evals.registry import task
from gems.evals.tables.figuring import figure_table
from gems.evals.tables.measuring import COSTS, Measured, cost_table, measured_of, quality_table
from gems.evals.tables.notes import notes_of
from gems.evals.tables.pairing import WHOLE, Pair, pair_table, pairs_of, pairs_of_parts
from gems.evals.tables.parting import Part, part_tables, parts_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One number of a comparison, for programs."""

    benchmark: str
    language: str
    judge: str
    entry: str
    part: str
    metric: str
    mean: Mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One benchmark in one language by one judge."""

    benchmark: str
    title: str
    language: str
    judge: str
    metric: str
    scale: Scale
    measured: Sequence[Measured]
    pairs: Sequence[Pair]
    tables: Sequence[Table]
    records: Sequence[Record]
    notes: Sequence[str]


def sections_of(folders: Sequence[Drawn], judge: str | None = None) -> list[Section]:
    """All sections of some folders.

    Args:
        folders: Read; those of one harness with several seeds make one entry.
        judge: The only judge whose numbers are wanted; None for all.

    Raises:
        RequestError: nothing was scored by such a judge, or a folder comes twice.
    """
    found = [
        _section(benchmark, language, name, entries)
        for benchmark, entries in entries_of(folders).items()
        for language in dict.fromkeys(code for entry in entries for code in entry.settings.languages)
        for name in judges_of(entries, language)
        if judge in (None, name)
    ]
    if not found:
        known = sorted(
            {name for each in folders for name in (*each.scores, *(f.judge for f in each.figures))}
        )
        said = f" by {judge}; there are numbers by {', '.join(known)}" if judge and known else ""
        raise RequestError(
            f"There is nothing to compare: none of these folders was scored{said}.",
            hint="`gems eval score DIR` scores one.",
        )
    return found


def judges_of(entries: Iterable[Entry], language: str) -> list[str]:
    """Who scored anything in this language; official numbers come first."""
    names: dict[str, None] = {}
    for entry in entries:
        for each in entry.drawn:
            names |= dict.fromkeys(figure.judge for figure in each.figures if figure.language == language)
            names |= dict.fromkeys(
                judge
                for judge, scores in each.scores.items()
                if any(score.language == language for score in scores)
            )
    return sorted(names, key=lambda name: (name != OFFICIAL, name))


def _section(benchmark: str, language: str, judge: str, entries: Sequence[Entry]) -> Section:
    about = task(benchmark)
    measured = [measured_of(entry, language, judge, about.metric) for entry in entries]
    scale = Scale.of([value for each in measured for value in each.values.values()])
    pairs = pairs_of({each.entry.label: each.values for each in measured})
    parts = parts_of(entries, language, judge, about.metric)
    tables = [
        quality_table(measured, language, judge, about.metric, scale),
        cost_table(measured, language),
        *part_tables(parts, scale),
        pair_table(pairs, scale),
        figure_table(entries, language, judge),
    ]
    return Section(
        benchmark=benchmark,
        title=about.title,
        language=language,
        judge=judge,
        metric=about.metric,
        scale=scale,
        measured=measured,
        pairs=[*pairs, *pairs_of_parts(parts)],
        tables=[table for table in tables if table is not None and table.rows],
        records=_records(benchmark, language, judge, about.metric, measured, parts),
        notes=notes_of(entries, language, judge),
    )


def _records(
    benchmark: str,
    language: str,
    judge: str,
    metric: str,
    measured: Sequence[Measured],
    parts: Sequence[Part],
) -> list[Record]:
    def record(entry: str, part: str, name: str, mean: Mean) -> Record:
        return Record(
            benchmark=benchmark,
            language=language,
            judge=judge,
            entry=entry,
            part=part,
            metric=name,
            mean=mean,
        )

    found = []
    for each in measured:
        label = each.entry.label
        if each.quality is not None:
            found.append(record(label, WHOLE, metric, each.quality))
        for name, of in COSTS.items():
            values = per_sample(each.entry.rows(language), of)
            if values:
                found.append(record(label, WHOLE, name, mean_of(list(values.values()))))
    for part in parts:
        name = f"{part.kind}/{part.name}"
        found += [record(label, name, metric, mean) for label, mean in part.means.items()]
    return found
