"""Sections: metrics, parts, pairs, notes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, stdev

from gems.errors import RequestError
from gems.evals.comparison.entries import Entry, FolderData, cost_by_prompt, group_entries, mean_by_prompt
from gems.evals.comparison.statistics import (
    Mean,
    PairedComparison,
    adjust_holm,
    compare_paired,
    mean_over_prompts,
    mean_with_interval,
)
from gems.evals.comparison.table import NONE, Scale, Table, format_amount, format_coverage, format_p
from gems.evals.judge import OFFICIAL, inhouse_name
from gems.evals.metrics import group_by, mean
from gems.evals.records import Figure, SampleRow, Score
from gems.evals.registry import load_task

Values = Mapping[str, Mapping[str, float]]
"""Values by entry label and prompt."""
PARTIAL_NOTE = "* partial: based on a part of the benchmark, so it is not the benchmark's score."
_EXCLUDED = "they are excluded, not counted as 0."
COST_METRICS: Mapping[str, Callable[[SampleRow], float | None]] = {
    "images": lambda row: row.images,
    "rounds": lambda row: row.rounds,
    "calls": lambda row: row.calls,
    "tokens in": lambda row: row.input_tokens,
    "tokens out": lambda row: row.output_tokens,
    "seconds": lambda row: row.seconds,
    "US dollars": lambda row: row.usd,
}
ALL_PARTS = "all"
"""The label for all samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedMean:
    """A figure over seeds: mean on the published scale, standard deviation (None for a single seed)."""

    value: float
    spread: float | None
    scored: int
    expected: int
    """Samples of the complete benchmark, times the seeds."""

    @property
    def is_partial(self) -> bool:
        """Whether samples are missing."""
        return self.scored < self.expected

    def format(self) -> str:
        """Format `63.5`, `63.5 ± 0.8`, or `52.0*` if partial."""
        spread = "" if self.spread is None else f" ± {_format_figure(self.spread)}"
        return f"{_format_figure(self.value)}{spread}{'*' if self.is_partial else ''}"


def _format_figure(value: float) -> str:
    if not value:
        return "0"
    digits = 3 if abs(value) < 1 else 2 if abs(value) < 10 else 1
    return f"{value:.{digits}f}"


def figures_by_name(entry: Entry, language: str, judge: str) -> dict[str, SeedMean]:
    """Return an entry's figures with a value by name, in the benchmark's order.

    Seeds without figures make the result partial.
    """
    by_name: defaultdict[str, list[Figure]] = defaultdict(list)
    for figures in entry.figures(language, judge):
        for figure in figures:
            by_name[figure.name].append(figure)
    found = {}
    for name, figures in by_name.items():
        values = [figure.value for figure in figures if figure.value is not None]
        missing = len(entry.seeds) - len(figures)
        if values:
            found[name] = SeedMean(
                value=fmean(values),
                spread=stdev(values) if len(values) > 1 else None,
                scored=sum(figure.scored for figure in figures),
                expected=sum(figure.expected for figure in figures) + missing * figures[0].expected,
            )
    return found


def figure_table(entries: Sequence[Entry], language: str, judge: str) -> Table | None:
    """Build the table of the published figures; None if there are none."""
    found = {entry.label: figures_by_name(entry, language, judge) for entry in entries}
    names = dict.fromkeys(name for means in found.values() for name in means)
    if not names:
        return None
    rows = [[name, *(means[name].format() if name in means else NONE for means in found.values())] for name in names]
    shown = [mean for means in found.values() for mean in means.values()]
    notes = []
    if any(mean.is_partial for mean in shown):
        notes.append(PARTIAL_NOTE)
    if any(mean.spread is not None for mean in shown):
        notes.append("± is the standard deviation over seeds.")
    return Table(title="The benchmark's own figures", columns=["figure", *found], rows=rows, notes=notes)


def section_notes(entries: Sequence[Entry], language: str, judge: str) -> list[str]:
    """Return the notes on one judge's numbers."""
    notes = [judge_note(entries, judge)]
    budgets = sorted({entry.settings.images for entry in entries})
    if len(budgets) > 1:
        notes.append(f"The harnesses have different image budgets: {', '.join(map(str, budgets))}.")
    notes += [note for entry in entries for note in _gap_notes(entry, language, judge)]
    warnings = [warning for entry in entries for each in entry.folders for warning in each.folder.warnings]
    return notes + list(dict.fromkeys(warnings))


def judge_note(entries: Sequence[Entry], judge: str) -> str:
    """Name the judge, and warn if the loop used the same model as its judge."""
    if judge == load_task(entries[0].settings.task).truth:
        return "Scored by the true scenes, without a judge."
    if judge == OFFICIAL:
        return "Scored by the official scorer."
    loop_judges = {entry.label: entry.settings.judge or entry.settings.chat for entry in entries}
    same = [label for label, spec in loop_judges.items() if spec and inhouse_name(spec) == judge]
    if same:
        return (
            f"Judged by {judge}, which is also the loop's own judge in {', '.join(same)}: it overlooks the "
            "same errors twice, so these scores are too high."
        )
    return f"Judged by {judge}, which is not the loop's own judge in any of these harnesses."


def _gap_notes(entry: Entry, language: str, judge: str) -> list[str]:
    notes = []
    if failed := entry.rows(language, failed=True):
        notes.append(f"{entry.label}: samples without an image: {len(failed):,}; {_EXCLUDED}")
    unscored = {score.key for score in entry.scores(language, judge) if score.value is None}
    if unscored:
        notes.append(f"{entry.label}: samples that could not be scored: {len(unscored):,}; {_EXCLUDED}")
    seeds = sum(any(f.judge == judge for f in each.figures) for each in entry.folders)
    if 0 < seeds < len(entry.folders):
        notes.append(f"{entry.label}: only {seeds} of {len(entry.folders)} seeds were scored.")
    return notes


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The numbers of one entry by one judge: main metric by prompt, its mean, mean images per sample."""

    entry: Entry
    values: Mapping[str, float]
    quality: Mean | None
    images: Mean | None


def measure_entry(entry: Entry, language: str, judge: str, metric: str) -> Measured:
    """Return the numbers of an entry by one judge."""
    values = mean_by_prompt(entry.scores(language, judge, metric))
    images = cost_by_prompt(entry.rows(language), lambda row: row.images)
    return Measured(entry=entry, values=values, quality=mean_over_prompts(values), images=mean_over_prompts(images))


def quality_table(measured: Sequence[Measured], language: str, judge: str, metric: str, scale: Scale) -> Table | None:
    """Build the table of all metrics and their coverage; None without scores."""
    if not any(each.values for each in measured):
        return None
    scored_metrics = (score.metric for each in measured for score in each.entry.scores(language, judge))
    metrics = list(dict.fromkeys([metric, *scored_metrics]))
    rows = []
    for each in measured:
        scores = [each.entry.scores(language, judge, name) for name in metrics]
        means = [mean_over_prompts(mean_by_prompt(found)) for found in scores]
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


def _count_scored(entry: Entry, language: str, judge: str, metric: str) -> tuple[int, int]:
    """Return the scored samples and those of the complete benchmark, over all seeds."""
    scored = sum(score.value is not None for score in entry.scores(language, judge, metric))
    figures = entry.figures(language, judge)
    whole = load_task(entry.settings.task).sample_count(language) * len(entry.seeds)
    # Figures know the expected samples of benchmarks with several metrics.
    expected = sum(found[0].expected for found in figures) if len(figures) == len(entry.seeds) else whole
    return scored, max(expected, scored)


def cost_table(measured: Sequence[Measured], language: str) -> Table:
    """Build the table of the mean cost per sample."""
    rows = []
    for each in measured:
        drawn, failed = each.entry.rows(language), each.entry.rows(language, failed=True)
        means = [mean(cost_by_prompt(drawn, cost).values()) for cost in COST_METRICS.values()]
        images = str(each.entry.settings.images)
        rows.append([each.entry.label, images, *map(format_amount, means), str(len(failed))])
    entries = [each.entry for each in measured]
    unknown = [entry.label for entry in entries if any(row.usd is None for row in entry.rows(language))]
    return Table(
        title="Cost per sample",
        columns=["harness", "max. images", *COST_METRICS, "failed"],
        rows=rows,
        notes=[f"The price of some samples is unknown: {', '.join(unknown)}."] if unknown else [],
    )


_GROUPINGS: Mapping[str, Callable[[Score], str]] = {
    "category": lambda score: score.category,
    "atomicity": lambda score: _format_atomicity(score.facts.get("atomicity")),
}
"""Kind of part -> part of a score, empty for none."""


def _format_atomicity(value: object) -> str:
    return str(int(value)) if isinstance(value, int | float) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a benchmark: the main metric by entry label and prompt, and its mean by label."""

    kind: str
    """`category` or `atomicity`."""
    name: str
    values: Values
    means: Mapping[str, Mean]

    @property
    def path(self) -> str:
        """Kind and name, as in CSV files."""
        return f"{self.kind}/{self.name}"


def split_parts(entries: Sequence[Entry], language: str, judge: str, metric: str) -> list[Part]:
    """Return all parts in order; kinds with a single part are left out."""
    found: list[Part] = []
    for kind, group_of in _GROUPINGS.items():
        groups: defaultdict[str, dict[str, dict[str, float]]] = defaultdict(dict)
        for entry in entries:
            for name, scores in group_by(entry.scores(language, judge, metric), group_of).items():
                if name and (values := mean_by_prompt(scores)):
                    groups[name][entry.label] = values
        if len(groups) > 1:
            for name in sorted(groups, key=_natural_key):
                means = {label: mean_with_interval(list(values.values())) for label, values in groups[name].items()}
                found.append(Part(kind=kind, name=name, values=groups[name], means=means))
    return found


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two entries by label; `first` came later on the command line."""

    first: str
    second: str
    part: str
    """`all`, `category/...` or `atomicity/...`."""
    comparison: PairedComparison


def compare_pairs(values: Values, part: str = ALL_PARTS) -> list[Pair]:
    """Compare each entry with each earlier one; pairs without a common prompt are left out."""
    return [
        Pair(first=first, second=second, part=part, comparison=comparison)
        for second, first in combinations(values, 2)
        if (comparison := compare_paired(values[first], values[second])) is not None
    ]


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
    """One number of a comparison."""

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

    @property
    def key(self) -> tuple[str, str, str]:
        """Benchmark, language and judge."""
        return self.benchmark, self.language, self.judge

    @property
    def heading(self) -> str:
        """Title, language and judge."""
        return f"{self.title} ({self.language}), scored by {self.judge}"


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
        known = sorted({name for each in folders for name in (*each.scores, *(f.judge for f in each.figures))})
        suffix = f" by {judge}; there are scores by {', '.join(known)}" if judge and known else ""
        raise RequestError(
            f"Nothing to compare: none of these folders has scores{suffix}.",
            hint="Score a folder with `gems eval score DIR`.",
        )
    return found


def list_judges(entries: Iterable[Entry], language: str) -> list[str]:
    """Return all judges with scores in this language, official ones first."""
    folders = [each for entry in entries for each in entry.folders]
    names = {figure.judge for each in folders for figure in each.figures if figure.language == language}
    names |= {
        judge
        for each in folders
        for judge, scores in each.scores.items()
        if any(score.language == language for score in scores)
    }
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
        pairs=pairs + [pair for each in parts for pair in compare_pairs(each.values, each.path)],
        tables=[table for table in tables if table is not None and table.rows],
        records=_build_records(language, info.metric, measured, parts),
        notes=section_notes(entries, language, judge),
    )


def _build_records(language: str, metric: str, measured: Sequence[Measured], parts: Sequence[Part]) -> list[Record]:
    found = []
    for each in measured:
        means = {metric: each.quality}
        for name, cost in COST_METRICS.items():
            means[name] = mean_over_prompts(cost_by_prompt(each.entry.rows(language), cost))
        for name, mean_found in means.items():
            if mean_found is not None:
                found.append(Record(entry=each.entry.label, part=ALL_PARTS, metric=name, mean=mean_found))
    for part in parts:
        for label, mean_found in part.means.items():
            found.append(Record(entry=label, part=part.path, metric=metric, mean=mean_found))
    return found
