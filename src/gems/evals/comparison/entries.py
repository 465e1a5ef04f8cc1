"""Output folders put together for comparison: an entry is one harness with its models, over all its seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from gems.errors import RequestError
from gems.evals.output_folder import EvalFolder
from gems.evals.records import Figure, SampleRow, Score
from gems.evals.samples import SampleKey
from gems.evals.settings import EvalSettings


@dataclass(frozen=True, slots=True)
class FolderData:
    """One output folder, read.

    Attributes:
        folder: Reads its images.
        rows: By sample.
        scores: By judge.
        figures: Of all judges.
    """

    folder: EvalFolder
    rows: Mapping[SampleKey, SampleRow]
    scores: Mapping[str, Sequence[Score]]
    figures: Sequence[Figure]

    @property
    def settings(self) -> EvalSettings:
        """What it was drawn with."""
        return self.folder.settings


@dataclass(frozen=True, slots=True)
class Entry:
    """One harness with its models over its seeds.

    Attributes:
        label: Tells it from the others.
        drawn: Its folders, by seed.
    """

    label: str
    drawn: Sequence[FolderData]

    @property
    def settings(self) -> EvalSettings:
        """What all its folders have in common; seeds differ."""
        return self.drawn[0].settings

    @property
    def seeds(self) -> list[int]:
        """One for each folder."""
        return [each.settings.seed for each in self.drawn]

    def rows(self, language: str) -> list[SampleRow]:
        """Of all seeds, those that have an image."""
        rows = (row for each in self.drawn for row in each.rows.values())
        return [row for row in rows if row.language == language and row.file]

    def failed(self, language: str) -> int:
        """Samples of all seeds that have no image although a harness tried."""
        rows = (row for each in self.drawn for row in each.rows.values())
        return sum(row.language == language and not row.file for row in rows)

    def scores(self, language: str, judge: str, metric: str | None = None) -> list[Score]:
        """Of all seeds, with and without a value."""
        return [
            score
            for each in self.drawn
            for score in each.scores.get(judge, ())
            if score.language == language and metric in (None, score.metric)
        ]

    def figures(self, language: str, judge: str) -> list[list[Figure]]:
        """The figures of each seed that has some."""
        found = [
            [figure for figure in each.figures if (figure.language, figure.judge) == (language, judge)]
            for each in self.drawn
        ]
        return [figures for figures in found if figures]


async def read_folder(url: str) -> FolderData:
    """Read a folder.

    Raises:
        RequestError: it is no output folder.
        DataError: something in it is damaged.
    """
    folder = await EvalFolder.open(url)
    scores = {judge: await folder.scores(judge) for judge in await folder.judges()}
    return FolderData(folder, await folder.rows(), scores, await folder.figures())


def group_entries(folders: Sequence[FolderData]) -> dict[str, list[Entry]]:
    """The entries by benchmark, in the order of the folders.

    Raises:
        RequestError: the same harness, models and seed come twice.
    """
    groups: defaultdict[tuple[object, ...], list[FolderData]] = defaultdict(list)
    for each in folders:
        groups[_identity(each.settings)].append(each)
    for group in groups.values():
        _check_seeds(group)
    found: defaultdict[str, list[Entry]] = defaultdict(list)
    for group, label in zip(groups.values(), _labels([group[0] for group in groups.values()]), strict=True):
        ordered = sorted(group, key=lambda each: each.settings.seed)
        found[group[0].settings.task].append(Entry(label, ordered))
    return dict(found)


def _identity(settings: EvalSettings) -> tuple[object, ...]:
    """Everything that makes another entry; only the seed may differ within one."""
    return tuple(
        getattr(settings, name) for name in ("task", "languages", "limit", "samples", "learn", *_LABEL_PARTS)
    )


_LABEL_PARTS: Mapping[str, str] = {
    "harness": "{}",
    "generator": "{}",
    "generator_profile": "profile {}",
    "chat": "chat {}",
    "judge": "loop's judge {}",
    "images": "{} images",
    "size": "{} pixels",
}
"""What tells entries apart -> how it is said."""


def _labels(firsts: Sequence[FolderData]) -> list[str]:
    """The harness, and whatever else differs among entries of the same benchmark and harness."""
    labels = []
    for each in firsts:
        same = [
            other.settings
            for other in firsts
            if (other.settings.task, other.settings.harness) == (each.settings.task, each.settings.harness)
        ]
        parts = [each.settings.harness]
        for name, form in _LABEL_PARTS.items():
            value = getattr(each.settings, name)
            if len({getattr(other, name) for other in same}) > 1:
                parts.append(form.format(value or "none"))
        for name, form in (("learn", "learning: {}"), ("limit", "limit {}"), ("samples", "{} samples")):
            if len({getattr(other, name) for other in same}) > 1:
                parts.append(form.format(getattr(each.settings, name)))
        labels.append(", ".join(parts))
    return labels


def _check_seeds(group: Sequence[FolderData]) -> None:
    seen: dict[int, FolderData] = {}
    for each in group:
        if other := seen.get(each.settings.seed):
            raise RequestError(
                f"{other.folder.label} and {each.folder.label} hold the same: harness "
                f"{each.settings.harness}, seed {each.settings.seed}.",
                hint="Name each folder once; a second seed is begun with --seed.",
            )
        seen[each.settings.seed] = each


def mean_by_prompt(scores: Iterable[Score]) -> dict[str, float]:
    """One value for each prompt that has any: the mean over samples and seeds."""
    return _group_means((score.prompt_id, score.value) for score in scores if score.value is not None)


def cost_by_prompt(rows: Iterable[SampleRow], of: Callable[[SampleRow], float | None]) -> dict[str, float]:
    """What a sample takes, as one value for each prompt: the mean over samples and seeds that tell it."""
    told = ((row.prompt_id, of(row)) for row in rows)
    return _group_means((prompt, value) for prompt, value in told if value is not None)


def _group_means(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    for prompt, value in pairs:
        found[prompt].append(value)
    return {prompt: fmean(values) for prompt, values in found.items()}


def get_atomicity(score: Score) -> int | None:
    """Requirements in the score's prompt; None where the benchmark does not tell."""
    value = score.facts.get("atomicity")
    return int(value) if isinstance(value, int | float) else None
