"""Score an output folder in house; existing scores are kept, failures are reported."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from gems.errors import ImageMissingError, ProviderError, UnreachableError
from gems.evals.judge import EvalJudge
from gems.evals.metrics import group_by
from gems.evals.output_folder import EvalFolder
from gems.evals.records import BenchmarkPrompt, Figure, SampleKey, SampleRow, SampleSet, Score
from gems.evals.task import Task

OnPrompt = Callable[[int, int], None]
"""Called with the number of finished prompts and of all prompts."""


class Unscored(BaseModel):
    """A sample without a score."""

    model_config = ConfigDict(frozen=True)

    language: str
    prompt_id: str
    sample: int
    why: str

    @classmethod
    def of(cls, key: SampleKey, why: str) -> Unscored:
        """Create the entry of a sample."""
        return cls(language=key.language, prompt_id=key.prompt_id, sample=key.sample, why=why)


class ScoreReport(BaseModel):
    """The result of scoring a folder."""

    model_config = ConfigDict(frozen=True)

    folder: str
    task: str
    judge: str = Field(description="The judge: a model with `-inhouse`, or `truth`.")
    scored: int = Field(description="Prompts scored by this call.")
    kept: int = Field(description="Prompts whose earlier scores were kept.")
    unscored: list[Unscored] = Field(description="Samples with an image but no score; never counted as 0.")
    missing: list[Unscored] = Field(description="Samples without an image.")
    figures: list[Figure]


async def score_folder(
    folder: EvalFolder,
    task: Task,
    judge: EvalJudge,
    name: str,
    *,
    data: Path,
    concurrency: int = 4,
    on_progress: OnPrompt | None = None,
) -> ScoreReport:
    """Score what is missing and write scores and figures into the folder.

    Scores up to an error are kept. Raises `DataError` for invalid data, `ConfigurationError` or
    `UnreachableError` if the judge cannot be used.
    """
    settings = folder.settings
    prompts = await task.prompts_by_language(data, settings.languages, settings.limit)
    sample_set = await folder.sample_set([prompt for found in prompts.values() for prompt in found])
    known = group_by(await folder.scores(name), lambda score: (score.language, score.prompt_id))
    work = _ScoringRun(folder, task, judge, name, sample_set, known)
    await work.run(concurrency, on_progress)
    # Scores of images that were replaced since then no longer hold.
    scores = [score for score in await folder.scores(name) if work.is_current(score)]
    figures: list[Figure] = []
    for language, found in prompts.items():
        figures += task.figures(found, scores, language, name)
    await folder.write_figures(name, figures)
    return work.report(figures)


@dataclass(slots=True)
class _ScoringRun:
    """State of one call."""

    folder: EvalFolder
    task: Task
    judge: EvalJudge
    name: str
    sample_set: SampleSet
    known: Mapping[tuple[str, str], Sequence[Score]]
    unscored: dict[SampleKey, str] = field(default_factory=dict)
    missing: dict[SampleKey, str] = field(default_factory=dict)
    digests: dict[tuple[str, str], str] = field(default_factory=dict)
    scored: int = 0
    kept: int = 0
    # Keeps the lines of a prompt together, so that it is scored completely or not at all.
    write_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, concurrency: int, on_progress: OnPrompt | None) -> None:
        """Score every prompt; the first error that affects all of them is raised."""
        slots = asyncio.Semaphore(concurrency)
        done, total = 0, len(self.sample_set.prompts)

        async def score_one(prompt: BenchmarkPrompt) -> None:
            nonlocal done
            async with slots:
                await self._score_prompt(prompt)
            done += 1
            if on_progress is not None:
                on_progress(done, total)

        try:
            async with asyncio.TaskGroup() as group:
                for prompt in self.sample_set.prompts:
                    group.create_task(score_one(prompt))
        except* Exception as errors:  # noqa: BLE001 - the others repeat the first one
            raise errors.exceptions[0] from None

    async def _score_prompt(self, prompt: BenchmarkPrompt) -> None:
        images = await self._load_images(prompt)
        if not images:
            return
        digest = self.digests[prompt.language, prompt.id] = _image_digest(images)
        known = self.known.get((prompt.language, prompt.id), ())
        if known and all(score.value is not None and score.images == digest for score in known):
            self.kept += 1
            return
        try:
            found = await self.task.score(prompt, images, self.judge)
        except UnreachableError:
            raise
        except ProviderError as error:
            self.unscored |= {prompt.key(sample): error.message for sample in images}
            return
        async with self.write_lock:
            await self.folder.write_scores(self.name, [score.model_copy(update={"images": digest}) for score in found])
        self.scored += 1
        self.unscored |= {score.key: score.explanation for score in found if score.value is None}

    async def _load_images(self, prompt: BenchmarkPrompt) -> dict[int, bytes]:
        images = {}
        for sample in range(self.folder.settings.samples):
            key = prompt.key(sample)
            row = self.sample_set.rows.get(key)
            if row is None or not row.file:
                self.missing[key] = missing_reason(row)
                continue
            try:
                images[sample] = await self.sample_set.image(row)
            except ImageMissingError as error:
                self.missing[key] = error.message
        return images

    def is_current(self, score: Score) -> bool:
        """Whether a score belongs to the present images."""
        return score.images == self.digests.get((score.language, score.prompt_id))

    def report(self, figures: Sequence[Figure]) -> ScoreReport:
        """Build the report."""
        return ScoreReport(
            folder=self.folder.label,
            task=self.folder.settings.task,
            judge=self.name,
            scored=self.scored,
            kept=self.kept,
            unscored=[Unscored.of(*each) for each in sorted(self.unscored.items())],
            missing=[Unscored.of(*each) for each in sorted(self.missing.items())],
            figures=list(figures),
        )


def missing_reason(row: SampleRow | None) -> str:
    """Return why a sample has no image."""
    return "Not generated yet." if row is None else row.error or "The file is missing."


def _image_digest(images: Mapping[int, bytes]) -> str:
    whole = hashlib.sha256()
    for sample in sorted(images):
        whole.update(f"{sample}:{hashlib.sha256(images[sample]).hexdigest()};".encode())
    return whole.hexdigest()[:16]
