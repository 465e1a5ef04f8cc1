"""Harnesses side by side: for each benchmark, language and judge one section, so that judges never mix."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from gems.errors import RequestError
from gems.evals.judge import OFFICIAL
from gems.evals.rows import SampleRow, Score
from gems.evals.tables.entries import Drawn, Entry, atomicity, by_prompt, entries_of, per_sample
from gems.evals.tables.figuring import figure_table
from gems.evals.tables.notes import cost_notes, notes_of
from gems.evals.tables.statistics import Mean, Paired, holm, mean_of, paired
from gems.evals.tables.table import Scale, Table, amount, coverage, probability
from gems.evals.tasks.registry import task


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
    pairs: Mapping[tuple[str, str], Paired]
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
        section
        for benchmark, entries in entries_of(folders).items()
        for language in entries[0].settings.languages
        for name in judges_of(entries, language)
        if judge in (None, name) and (section := _section(benchmark, language, name, entries))
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


def _section(benchmark: str, language: str, judge: str, entries: Sequence[Entry]) -> Section | None:
    about = task(benchmark)
    measured = [_measured(entry, language, judge, about.metric) for entry in entries]
    scale = Scale.of([value for each in measured for value in each.values.values()])
    pairs = _pairs(measured)
    parts = _parts(entries, language, judge, about.metric)
    tables = [
        _quality_table(measured, language, judge, about.metric, scale),
        _cost_table(measured, language),
        *(_part_table(name, groups, scale) for name, groups in parts.items()),
        _pair_table(pairs, scale),
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
        pairs=pairs,
        tables=[table for table in tables if table is not None and table.rows],
        records=_records(benchmark, language, judge, about.metric, measured, parts),
        notes=notes_of(entries, language, judge),
    )


def _measured(entry: Entry, language: str, judge: str, metric: str) -> Measured:
    values = by_prompt(entry.scores(language, judge, metric))
    images = per_sample(entry.rows(language), lambda row: row.images)
    return Measured(
        entry=entry,
        values=values,
        quality=mean_of(list(values.values())) if values else None,
        images=mean_of(list(images.values())) if images else None,
    )


def _quality_table(
    measured: Sequence[Measured], language: str, judge: str, metric: str, scale: Scale
) -> Table | None:
    if not any(each.values for each in measured):
        return None
    metrics = [metric, *_others(measured, language, judge, metric)]
    rows = []
    for each in measured:
        means = [_mean(each.entry.scores(language, judge, name)) for name in metrics]
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


def _mean(scores: Iterable[Score]) -> Mean | None:
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


_COSTS: Mapping[str, Callable[[SampleRow], float | None]] = {
    "images": lambda row: row.images,
    "rounds": lambda row: row.rounds,
    "calls": lambda row: row.calls,
    "tokens in": lambda row: row.input_tokens,
    "tokens out": lambda row: row.output_tokens,
    "seconds": lambda row: row.seconds,
    "US dollars": lambda row: row.usd,
}


def _cost_table(measured: Sequence[Measured], language: str) -> Table:
    rows = []
    for each in measured:
        drawn = each.entry.rows(language)
        means = {name: _plain_mean(drawn, of) for name, of in _COSTS.items()}
        failed = each.entry.failed(language)
        rows.append(
            [each.entry.label, str(each.entry.settings.images), *map(amount, means.values()), str(failed)]
        )
    return Table(
        title="What a sample takes",
        columns=["harness", "images at most", *_COSTS, "failed"],
        rows=rows,
        notes=cost_notes([each.entry for each in measured], language),
    )


def _plain_mean(rows: Sequence[SampleRow], of: Callable[[SampleRow], float | None]) -> float | None:
    values = per_sample(rows, of)
    return sum(values.values()) / len(values) if values else None


Groups = Mapping[str, Mapping[str, Mean]]
"""Part -> entry's label -> mean."""


def _parts(entries: Sequence[Entry], language: str, judge: str, metric: str) -> dict[str, Groups]:
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
                mean = _mean(those)
                if part and mean is not None:
                    groups[part][entry.label] = mean
        if len(groups) > 1:
            found[title] = {part: groups[part] for part in sorted(groups, key=_naturally)}
    return found


def _naturally(text: str) -> str:
    """Puts 3 before 10."""
    return re.sub(r"\d+", lambda number: number.group().zfill(8), text)


def _part_table(title: str, groups: Groups, scale: Scale) -> Table:
    labels = list(dict.fromkeys(label for means in groups.values() for label in means))
    rows = [[part, *(scale.mean(means.get(label)) for label in labels)] for part, means in groups.items()]
    return Table(title=title, columns=[title.removeprefix("By "), *labels], rows=rows)


def _pairs(measured: Sequence[Measured]) -> dict[tuple[str, str], Paired]:
    found = {}
    for first, second in combinations(measured, 2):
        pair = paired(second.values, first.values)
        if pair is not None:
            found[second.entry.label, first.entry.label] = pair
    return found


def _pair_table(pairs: Mapping[tuple[str, str], Paired], scale: Scale) -> Table:
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


def _records(
    benchmark: str,
    language: str,
    judge: str,
    metric: str,
    measured: Sequence[Measured],
    parts: Mapping[str, Groups],
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
            found.append(record(label, "all", metric, each.quality))
        for name, of in _COSTS.items():
            values = per_sample(each.entry.rows(language), of)
            if values:
                found.append(record(label, "all", name, mean_of(list(values.values()))))
    for title, groups in parts.items():
        kind = title.removeprefix("By ")
        for part, means in groups.items():
            found += [record(label, f"{kind}/{part}", metric, mean) for label, mean in means.items()]
    return found
