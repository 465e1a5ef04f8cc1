"""Group output folders for comparison: an entry is one harness with its models, over all seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from gems.errors import RequestError
from gems.evals.metrics import values_by
from gems.evals.output_folder import EvalFolder, EvalSettings
from gems.evals.records import Figure, SampleKey, SampleRow, Score

_LABEL_PARTS: Mapping[str, str] = {
    "generator": "{}",
    "generator_profile": "profile {}",
    "chat": "chat {}",
    "judge": "loop's judge {}",
    "images": "{} images",
    "size": "{} pixels",
    "learn": "learning: {}",
    "limit": "limit {}",
    "samples": "{} samples",
}
"""Settings that may appear in labels, and their format."""


@dataclass(frozen=True, slots=True)
class FolderData:
    """The contents of one output folder; `folder` reads its images, `scores` are by judge."""

    folder: EvalFolder
    rows: Mapping[SampleKey, SampleRow]
    scores: Mapping[str, Sequence[Score]]
    figures: Sequence[Figure]

    @property
    def settings(self) -> EvalSettings:
        """The settings of the folder."""
        return self.folder.settings


@dataclass(frozen=True, slots=True)
class Entry:
    """One harness with its models; `folders` holds one folder per seed."""

    label: str
    folders: Sequence[FolderData]

    @property
    def settings(self) -> EvalSettings:
        """The settings that all folders share; seeds differ."""
        return self.folders[0].settings

    @property
    def seeds(self) -> list[int]:
        """The seed of each folder."""
        return [each.settings.seed for each in self.folders]

    def rows(self, language: str, *, failed: bool = False) -> list[SampleRow]:
        """Return the rows with an image, or the failed ones without, of all seeds."""
        rows = (row for each in self.folders for row in each.rows.values())
        return [row for row in rows if row.language == language and bool(row.file) != failed]

    def scores(self, language: str, judge: str, metric: str | None = None) -> list[Score]:
        """Return the scores of all seeds, with and without a value."""
        return [
            score
            for each in self.folders
            for score in each.scores.get(judge, ())
            if score.language == language and metric in (None, score.metric)
        ]

    def figures(self, language: str, judge: str) -> list[list[Figure]]:
        """Return the figures of each seed that has any."""
        found = [
            [figure for figure in each.figures if (figure.language, figure.judge) == (language, judge)]
            for each in self.folders
        ]
        return [figures for figures in found if figures]


async def read_folder(url: str) -> FolderData:
    """Read a folder; raises `RequestError` if it is not an output folder."""
    folder = await EvalFolder.open(url)
    scores = {judge: await folder.scores(judge) for judge in await folder.judges()}
    return FolderData(folder, await folder.rows(), scores, await folder.figures())


def group_entries(folders: Sequence[FolderData]) -> dict[str, list[Entry]]:
    """Return the entries by benchmark, in the order of the folders.

    Raises `RequestError` if the same harness, models and seed occur twice.
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
    """Return the settings that distinguish entries; only the seed may differ within one."""
    return tuple(getattr(settings, name) for name in ("task", "languages", "harness", *_LABEL_PARTS))


def _labels(firsts: Sequence[FolderData]) -> list[str]:
    """Return the harness and whatever else differs among entries of the same benchmark and harness."""
    labels = []
    for settings in (each.settings for each in firsts):
        key = (settings.task, settings.harness)
        same = [each.settings for each in firsts if (each.settings.task, each.settings.harness) == key]
        parts = [settings.harness]
        for name, form in _LABEL_PARTS.items():
            if len({getattr(other, name) for other in same}) > 1:
                value = getattr(settings, name)
                parts.append(form.format("none" if value == "" else value))
        labels.append(", ".join(parts))
    return labels


def _check_seeds(group: Sequence[FolderData]) -> None:
    seen: dict[int, FolderData] = {}
    for each in group:
        if other := seen.get(each.settings.seed):
            raise RequestError(
                f"{other.folder.label} and {each.folder.label} have the same harness and seed: "
                f"{each.settings.harness}, {each.settings.seed}.",
                hint="Pass each folder once; use --seed for runs with other seeds.",
            )
        seen[each.settings.seed] = each


def mean_by_prompt(scores: Iterable[Score]) -> dict[str, float]:
    """Return the mean over samples and seeds for each prompt with a value."""
    groups = values_by(scores, lambda score: score.prompt_id)
    return {prompt: fmean(values) for prompt, values in groups.items()}


def cost_by_prompt(rows: Iterable[SampleRow], cost: Callable[[SampleRow], float | None]) -> dict[str, float]:
    """Return the mean cost over samples and seeds for each prompt with a value."""
    groups: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        if (value := cost(row)) is not None:
            groups[row.prompt_id].append(value)
    return {prompt: fmean(values) for prompt, values in groups.items()}
