"""Sections: metrics, parts, pairs, notes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, stdev

from gems.errors import RequestError
from gems.evals.comparison.entries import (
    Entry,
    FolderData,
    cost_by_prompt,
    get_atomicity,
    group_entries,
    mean_by_prompt,
)
from gems.evals.comparison.statistics import (
    Mean,
    PairedComparison,
    adjust_holm,
    compare_paired,
    mean_with_interval,
)
from gems.evals.comparison.table import NONE, Scale, Table, format_amount, format_coverage, format_p
from gems.evals.judge import OFFICIAL, inhouse_name
from gems.evals.output_folder import EvalSettings
from gems.evals.records import Figure, SampleRow, Score
from gems.evals.registry import load_task


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


_EXCLUDED = "they are excluded, not counted as 0."


def section_notes(entries: Sequence[Entry], language: str, judge: str) -> list[str]:
    """Return the notes on one judge's numbers."""
    return [
        judge_note(entries, judge),
        *_budget_notes(entries),
        *(note for entry in entries for note in _gap_notes(entry, language, judge)),
        *(note for note in dict.fromkeys(w for e in entries for d in e.folders for w in d.folder.warnings)),
    ]


def judge_note(entries: Sequence[Entry], judge: str) -> str:
    """Name the judge, and warn if the loop used the same model as its judge."""
    if judge == load_task(entries[0].settings.task).truth:
        return "Scored by the true scenes, without a judge."
    if judge == OFFICIAL:
        return "Scored by the official scorer."
    same = [entry.label for entry in entries if loop_judge_name(entry.settings) == judge]
    if same:
        return (
            f"Judged by {judge}, which is also the loop's own judge in {', '.join(same)}: it overlooks the "
            "same errors twice, so these scores are too high."
        )
    return f"Judged by {judge}, which is not the loop's own judge in any of these harnesses."


def loop_judge_name(settings: EvalSettings) -> str:
    """Return the score name of the loop's own judge; empty if the harness has none."""
    spec = settings.judge or settings.chat
    return inhouse_name(spec) if spec else ""


def _budget_notes(entries: Sequence[Entry]) -> list[str]:
    """Return a note if the entries have different image budgets."""
    budgets = sorted({entry.settings.images for entry in entries})
    if len(budgets) < 2:
        return []
    return [f"The harnesses have different image budgets: {', '.join(map(str, budgets))}."]


def _gap_notes(entry: Entry, language: str, judge: str) -> list[str]:
    notes = []
    if failed := entry.failed(language):
        notes.append(f"{entry.label}: samples without an image: {failed:,}; {_EXCLUDED}")
    unscored = {score.key for score in entry.scores(language, judge) if score.value is None}
    if unscored:
        notes.append(f"{entry.label}: samples that could not be scored: {len(unscored):,}; {_EXCLUDED}")
    seeds = sum(any(f.judge == judge for f in each.figures) for each in entry.folders)
    if 0 < seeds < len(entry.folders):
        notes.append(f"{entry.label}: only {seeds} of {len(entry.folders)} seeds were scored.")
    return notes


def cost_notes(entries: Sequence[Entry], language: str) -> list[str]:
    """Return a note if prices are unknown."""
    unknown = [entry.label for entry in entries if any(row.usd is None for row in entry.rows(language))]
    return [f"The price of some samples is unknown: {', '.join(unknown)}."] if unknown else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The numbers of one entry by one judge.

    Attributes:
        entry: The entry.
        values: The main metric by prompt.
        quality: Its mean; None without scores.
        images: Mean number of images per sample; None without samples.
    """

    entry: Entry
    values: Mapping[str, float]
    quality: Mean | None
    images: Mean | None


def measure_entry(entry: Entry, language: str, judge: str, metric: str) -> Measured:
    """Return the numbers of an entry by one judge."""
    values = mean_by_prompt(entry.scores(language, judge, metric))
    images = cost_by_prompt(entry.rows(language), lambda row: row.images)
    return Measured(
        entry=entry,
        values=values,
        quality=mean_with_interval(list(values.values())) if values else None,
        images=mean_with_interval(list(images.values())) if images else None,
    )


def quality_table(
    measured: Sequence[Measured], language: str, judge: str, metric: str, scale: Scale
) -> Table | None:
    """Build the table of all metrics and their coverage; None without scores."""
    if not any(each.values for each in measured):
        return None
    metrics = [metric, *_other_metrics(measured, language, judge, metric)]
    rows = []
    for each in measured:
        means = [mean_over_prompts(each.entry.scores(language, judge, name)) for name in metrics]
        scored, expected = _count_scored(each.entry, language, judge, metric)
        seeds = ", ".join(map(str, each.entry.seeds))
        scales = [scale, *(Scale.of([mean.value]) if mean else scale for mean in means[1:])]
        means_text = [one.mean(mean) for one, mean in zip(scales, means, strict=True)]
        rows.append([each.entry.label, *means_text, format_coverage(scored, expected), seeds])
    return Table(
        title="Quality",
        columns=["harness", *metrics, "samples scored", "seeds"],
        rows=rows,
        notes=["In parentheses: 95 % bootstrap interval over prompts."],
    )


def _other_metrics(measured: Sequence[Measured], language: str, judge: str, metric: str) -> list[str]:
    """Return all metrics except the main one."""
    names: dict[str, None] = {}
    for each in measured:
        names |= dict.fromkeys(score.metric for score in each.entry.scores(language, judge))
    return [name for name in names if name != metric]


def mean_over_prompts(scores: Iterable[Score]) -> Mean | None:
    """Return the mean over prompts; None without values."""
    values = mean_by_prompt(scores)
    return mean_with_interval(list(values.values())) if values else None


def _count_scored(entry: Entry, language: str, judge: str, metric: str) -> tuple[int, int]:
    """Return the scored samples and those of the complete benchmark, over all seeds."""
    scored = sum(score.value is not None for score in entry.scores(language, judge, metric))
    figures = entry.figures(language, judge)
    whole = load_task(entry.settings.task).sample_count(language) * len(entry.seeds)
    # Figures know the expected samples of benchmarks with several metrics.
    expected = sum(found[0].expected for found in figures) if len(figures) == len(entry.seeds) else whole
    return scored, max(expected, scored)


COST_METRICS: Mapping[str, Callable[[SampleRow], float | None]] = {
    "images": lambda row: row.images,
    "rounds": lambda row: row.rounds,
    "calls": lambda row: row.calls,
    "tokens in": lambda row: row.input_tokens,
    "tokens out": lambda row: row.output_tokens,
    "seconds": lambda row: row.seconds,
    "US dollars": lambda row: row.usd,
}


def cost_table(measured: Sequence[Measured], language: str) -> Table:
    """Build the table of the mean cost per sample."""
    rows = []
    for each in measured:
        drawn = each.entry.rows(language)
        means = {name: _mean_cost(drawn, cost) for name, cost in COST_METRICS.items()}
        failed = each.entry.failed(language)
        rows.append(
            [
                each.entry.label,
                str(each.entry.settings.images),
                *map(format_amount, means.values()),
                str(failed),
            ]
        )
    return Table(
        title="Cost per sample",
        columns=["harness", "max. images", *COST_METRICS, "failed"],
        rows=rows,
        notes=cost_notes([each.entry for each in measured], language),
    )


def _mean_cost(rows: Sequence[SampleRow], cost: Callable[[SampleRow], float | None]) -> float | None:
    values = cost_by_prompt(rows, cost)
    return sum(values.values()) / len(values) if values else None


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
