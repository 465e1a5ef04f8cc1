"""The base of a benchmark: prompts, export, scoring and figures."""

from __future__ import annotations

import asyncio
import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gems.evals.export import ExportWriter
from gems.evals.judge import OFFICIAL, EvalJudge
from gems.evals.judging import ImageScore, score_samples
from gems.evals.metrics import mean
from gems.evals.records import BenchmarkPrompt, Figure, SampleKey, SampleSet, Score

Prompts = Sequence[BenchmarkPrompt]
Commands = Sequence[Sequence[object] | str]
"""Shell commands, or their words; words in capitals are placeholders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """A data file that users provide."""

    path: str
    """As in the official repository; folders end in a slash."""
    records: int | None
    """Records of the complete file; None if unknown."""
    size: int | None = None
    """Bytes of the supported edition; None if editions may differ."""
    language: str = ""
    """The only language that needs it; empty for all."""
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """Where to get the data of a benchmark: download page, licence, files, and remarks."""

    url: str
    licence: str
    files: Sequence[DataFile]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Files in the layout of an official scorer, and the commands for the score."""

    folder: Path
    commands: Sequence[str]
    missing: Sequence[SampleKey]
    """Samples without an image."""
    expected: int
    """Samples of the complete benchmark."""


class Task(ABC):
    """A benchmark."""

    name: str
    """As in `gems eval run NAME`."""
    title: str
    source: DataSource
    size: Mapping[str, int]
    """Prompts of the complete benchmark, by language."""
    metric: str
    """The score used to compare samples; higher is better."""
    languages: Sequence[str] = ("en",)
    samples_per_prompt: int = 1
    """Samples per prompt in the official protocol."""
    truth: str = ""
    """The judge name in scores of a benchmark that knows the true content of its images; else empty."""

    @abstractmethod
    def prompts(self, data: Path, language: str) -> list[BenchmarkPrompt]:
        """Return all prompts, in the benchmark's order; raises `DataError` for missing or invalid files."""

    @abstractmethod
    async def write_export(self, export: ExportWriter) -> Commands:
        """Write the files for the official scorer and return the commands to run it."""

    @abstractmethod
    async def score(self, prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge) -> list[Score]:
        """Score the images of one prompt, PNG bytes by sample; unscored without value if a reply is unreadable.

        Raises `ProviderError` if the judge cannot be reached.
        """

    @abstractmethod
    def compute_figures(self, figure: Figures, scores: Sequence[Score], prompts: Prompts) -> list[Figure]:
        """Compute the figures from the scores of one language; the first is the main result."""

    @abstractmethod
    def read_figures(self, figure: Figures, file: Path, prompts: Prompts) -> list[Figure]:
        """Read the figures from a result of the official scorer; raises `DataError` if it is not one."""

    async def prompts_by_language(
        self, data: Path, languages: Sequence[str], limit: int | None
    ) -> dict[str, list[BenchmarkPrompt]]:
        """Return the first prompts of each language; raises `DataError`. Does not block."""
        found = {each: await asyncio.to_thread(self.prompts, data, each) for each in languages}
        return {each: prompts[:limit] for each, prompts in found.items()}

    def sample_count(self, language: str) -> int:
        """Return the samples of the complete benchmark in a language."""
        return self.size[language] * self.samples_per_prompt

    def make_prompt(
        self, language: str, name: str, text: str, category: str = "", facts: Mapping[str, Any] | None = None
    ) -> BenchmarkPrompt:
        """Create a prompt of this benchmark with the id `name`."""
        return BenchmarkPrompt(
            benchmark=self.name, language=language, id=name, text=text, category=category, facts=facts or {}
        )

    async def export(self, sample_set: SampleSet, folder: Path) -> Export:
        """Write the files for the official scorer; missing samples are reported."""
        writer = ExportWriter(sample_set, folder, sample_set.samples or self.samples_per_prompt)
        await writer.check_empty()
        commands = await self.write_export(writer)
        return Export(
            folder=writer.folder,
            commands=[each if isinstance(each, str) else shlex.join(map(str, each)) for each in commands],
            missing=writer.missing,
            expected=sum(self.sample_count(language) for language in writer.languages),
        )

    def figures(self, prompts: Prompts, scores: Sequence[Score], language: str, judge: str) -> list[Figure]:
        """Compute the figures from the scores; the first is the benchmark's main result."""
        own = [score for score in scores if score.language == language]
        return self.compute_figures(Figures(self, language, judge), own, prompts)

    def read_official(self, file: Path, prompts: Prompts, language: str) -> list[Figure]:
        """Read the figures from a result of the official scorer; raises `DataError` if it is not one."""
        return self.read_figures(Figures(self, language, OFFICIAL), file, prompts)


class ImageTask(Task):
    """A benchmark that scores each image on its own."""

    @abstractmethod
    async def score_image(self, prompt: BenchmarkPrompt, image: bytes, judge: EvalJudge) -> ImageScore:
        """Score one image, given as PNG bytes."""

    async def score(self, prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge) -> list[Score]:
        """Score every image on its own."""
        return await score_samples(prompt, images, self.metric, lambda image: self.score_image(prompt, image, judge))


@dataclass(frozen=True, slots=True)
class Figures:
    """Creates figures of one benchmark, language and judge."""

    task: Task
    language: str
    judge: str

    def __call__(self, part: str, value: float | None, scored: int, expected: int | None = None) -> Figure:
        """Create the figure of a part such as `/counting`, or of the benchmark if `part` is empty.

        It rests on `scored` of `expected` samples, by default those of the complete benchmark.
        """
        return Figure(
            benchmark=self.task.name,
            language=self.language,
            name=f"{self.task.name}{part}",
            value=value,
            scored=scored,
            expected=self.task.sample_count(self.language) if expected is None else expected,
            judge=self.judge,
        )

    def parts(self, values: Mapping[str, Sequence[float]], expected: Mapping[str, int]) -> list[Figure]:
        """Create the mean of each part in `expected`, which holds the samples of the complete benchmark."""
        return [
            self(f"/{part}", mean(values.get(part, ())), len(values.get(part, ())), count)
            for part, count in expected.items()
        ]
