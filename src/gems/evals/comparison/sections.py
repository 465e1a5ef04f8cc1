"""Compare harnesses: one section per benchmark, language and judge, so that judges never mix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gems.errors import RequestError
from gems.evals.comparison.entries import Entry, FolderData, cost_by_prompt, group_entries
from gems.evals.comparison.statistics import Mean, mean_with_interval
from gems.evals.comparison.table import Scale, Table
from gems.evals.judge import OFFICIAL
from gems.evals.registry import load_task
from gems.evals.tables.figuring import figure_table
from gems.evals.tables.measuring import COST_METRICS, Measured, cost_table, measure_entry, quality_table
from gems.evals.tables.notes import section_notes
from gems.evals.tables.pairing import ALL_PARTS, Pair, compare_pairs, compare_pairs_by_part, pair_table
from gems.evals.tables.parting import Part, part_tables, split_parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One number of a comparison, for CSV."""

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


def build_sections(folders: Sequence[FolderData], judge: str | None = None) -> list[Section]:
    """Build all sections; `judge` restricts them to one judge.

    Raises `RequestError` if there are no scores by that judge, or a folder occurs twice.
    """
    found = [
        _build_section(benchmark, language, name, entries)
        for benchmark, entries in group_entries(folders).items()
        for language in dict.fromkeys(code for entry in entries for code in entry.settings.languages)
        for name in list_judges(entries, language)
        if judge in (None, name)
    ]
    if not found:
        known = sorted(
            {name for each in folders for name in (*each.scores, *(f.judge for f in each.figures))}
        )
        suffix = f" by {judge}; there are scores by {', '.join(known)}" if judge and known else ""
        raise RequestError(
            f"Nothing to compare: none of these folders has scores{suffix}.",
            hint="Score a folder with `gems eval score DIR`.",
        )
    return found


def list_judges(entries: Iterable[Entry], language: str) -> list[str]:
    """Return all judges with scores in this language, official ones first."""
    names: dict[str, None] = {}
    for entry in entries:
        for each in entry.folders:
            names |= dict.fromkeys(figure.judge for figure in each.figures if figure.language == language)
            names |= dict.fromkeys(
                judge
                for judge, scores in each.scores.items()
                if any(score.language == language for score in scores)
            )
    return sorted(names, key=lambda name: (name != OFFICIAL, name))


def _build_section(benchmark: str, language: str, judge: str, entries: Sequence[Entry]) -> Section:
    info = load_task(benchmark)
    measured = [measure_entry(entry, language, judge, info.metric) for entry in entries]
    scale = Scale.of([value for each in measured for value in each.values.values()])
    pairs = compare_pairs({each.entry.label: each.values for each in measured})
    parts = split_parts(entries, language, judge, info.metric)
    tables = [
        quality_table(measured, language, judge, info.metric, scale),
        cost_table(measured, language),
        *part_tables(parts, scale),
        pair_table(pairs, scale),
        figure_table(entries, language, judge),
    ]
    return Section(
        benchmark=benchmark,
        title=info.title,
        language=language,
        judge=judge,
        metric=info.metric,
        scale=scale,
        measured=measured,
        pairs=[*pairs, *compare_pairs_by_part(parts)],
        tables=[table for table in tables if table is not None and table.rows],
        records=_build_records(benchmark, language, judge, info.metric, measured, parts),
        notes=section_notes(entries, language, judge),
    )


def _build_records(
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
            found.append(record(label, ALL_PARTS, metric, each.quality))
        for name, of in COST_METRICS.items():
            values = cost_by_prompt(each.entry.rows(language), of)
            if values:
                found.append(record(label, ALL_PARTS, name, mean_with_interval(list(values.values()))))
    for part in parts:
        name = f"{part.kind}/{part.name}"
        found += [record(label, name, metric, mean) for label, mean in part.means.items()]
    return found
