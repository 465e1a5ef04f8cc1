"""Quality and cost of each entry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gems.evals.comparison.entries import Entry, cost_by_prompt, mean_by_prompt
from gems.evals.comparison.statistics import Mean, mean_with_interval
from gems.evals.comparison.table import Scale, Table, format_amount, format_coverage
from gems.evals.records import SampleRow, Score
from gems.evals.registry import load_task
from gems.evals.tables.notes import cost_notes


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
    benchmark = load_task(entry.settings.task)
    whole = benchmark.size[language] * benchmark.samples_per_prompt * len(entry.seeds)
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
