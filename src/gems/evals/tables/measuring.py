"""What each entry reaches, and what it takes for that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gems.evals.comparison.entries import Entry, by_prompt, per_sample
from gems.evals.comparison.statistics import Mean, mean_of
from gems.evals.comparison.table import Scale, Table, amount, coverage
from gems.evals.records import SampleRow, Score
from gems.evals.registry import task
from gems.evals.tables.notes import cost_notes


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One entry's numbers by one judge.

    Attributes:
        entry: The entry.
        values: The main metric by prompt.
        quality: Its mean; None where nothing was scored.
        images: Mean number of images of a sample; None where nothing was drawn.
    """

    entry: Entry
    values: Mapping[str, float]
    quality: Mean | None
    images: Mean | None


def measured_of(entry: Entry, language: str, judge: str, metric: str) -> Measured:
    """An entry's numbers by one judge."""
    values = by_prompt(entry.scores(language, judge, metric))
    images = per_sample(entry.rows(language), lambda row: row.images)
    return Measured(
        entry=entry,
        values=values,
        quality=mean_of(list(values.values())) if values else None,
        images=mean_of(list(images.values())) if images else None,
    )


def quality_table(
    measured: Sequence[Measured], language: str, judge: str, metric: str, scale: Scale
) -> Table | None:
    """The main metric and all others, and what they rest on; None where nothing was scored."""
    if not any(each.values for each in measured):
        return None
    metrics = [metric, *_others(measured, language, judge, metric)]
    rows = []
    for each in measured:
        means = [mean_over_prompts(each.entry.scores(language, judge, name)) for name in metrics]
        scored, expected = _coverage(each.entry, language, judge, metric)
        seeds = ", ".join(map(str, each.entry.seeds))
        scales = [scale, *(Scale.of([mean.value]) if mean else scale for mean in means[1:])]
        said = [one.mean(mean) for one, mean in zip(scales, means, strict=True)]
        rows.append([each.entry.label, *said, coverage(scored, expected), seeds])
    return Table(
        title="Quality",
        columns=["harness", *metrics, "samples scored", "seeds"],
        rows=rows,
        notes=["In brackets: bootstrap interval of 95 % over prompts."],
    )


def _others(measured: Sequence[Measured], language: str, judge: str, metric: str) -> list[str]:
    """Further metrics, but for those with a number for each of many categories."""
    names: dict[str, None] = {}
    for each in measured:
        names |= dict.fromkeys(score.metric for score in each.entry.scores(language, judge))
    return [name for name in names if name != metric]


def mean_over_prompts(scores: Iterable[Score]) -> Mean | None:
    """Samples and seeds of one prompt count as one; None where none has a value."""
    values = by_prompt(scores)
    return mean_of(list(values.values())) if values else None


def _coverage(entry: Entry, language: str, judge: str, metric: str) -> tuple[int, int]:
    """Samples that were scored, and those that the whole benchmark has, over all seeds."""
    scored = sum(score.value is not None for score in entry.scores(language, judge, metric))
    figures = entry.figures(language, judge)
    about = task(entry.settings.task)
    whole = about.size[language] * about.samples_per_prompt * len(entry.seeds)
    # Benchmarks with several kinds of numbers know better what each rests on.
    expected = sum(found[0].expected for found in figures) if len(figures) == len(entry.seeds) else whole
    return scored, max(expected, scored)


COSTS: Mapping[str, Callable[[SampleRow], float | None]] = {
    "images": lambda row: row.images,
    "rounds": lambda row: row.rounds,
    "calls": lambda row: row.calls,
    "tokens in": lambda row: row.input_tokens,
    "tokens out": lambda row: row.output_tokens,
    "seconds": lambda row: row.seconds,
    "US dollars": lambda row: row.usd,
}


def cost_table(measured: Sequence[Measured], language: str) -> Table:
    """What a sample takes on average."""
    rows = []
    for each in measured:
        drawn = each.entry.rows(language)
        means = {name: _plain_mean(drawn, of) for name, of in COSTS.items()}
        failed = each.entry.failed(language)
        rows.append(
            [each.entry.label, str(each.entry.settings.images), *map(amount, means.values()), str(failed)]
        )
    return Table(
        title="What a sample takes",
        columns=["harness", "images at most", *COSTS, "failed"],
        rows=rows,
        notes=cost_notes([each.entry for each in measured], language),
    )


def _plain_mean(rows: Sequence[SampleRow], of: Callable[[SampleRow], float | None]) -> float | None:
    values = per_sample(rows, of)
    return sum(values.values()) / len(values) if values else None
