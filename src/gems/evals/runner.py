"""Run all samples with retries and budget."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from gems.errors import MissingExtraError, OptionError, ProviderError, RequestError
from gems.evals.engines import Engine, EngineConfig, EngineName, LocalEngine
from gems.evals.harnesses import Harness
from gems.evals.jobs import Job, JobResult
from gems.evals.output_folder import EvalFolder, image_name
from gems.evals.records import BenchmarkPrompt, EvalSettings, SampleKey, SampleRow
from gems.evals.task import Task
from gems.memory.file_store import FileStore
from gems.options import RunOptions, derived_seed
from gems.service import Gems
from gems.types import sum_prices

MAX_CONSECUTIVE_FAILURES = 25
"""So many failures in a row mean that the jobs are not the cause."""


@dataclass(slots=True, kw_only=True)
class JobProgress:
    """Progress of all jobs.

    Attributes:
        total: All jobs, including those of earlier calls.
        done: Jobs with an image.
        done_before: Jobs that earlier calls finished.
        images: Images of finished jobs.
        spent: US dollars by job, None if prices are unknown; includes failed jobs and earlier calls.
        failed: The newest result of each failed job, by name.
        out_of_money: Whether the budget stopped it.
        started: `time.monotonic()` at the start.
    """

    total: int
    done: int = 0
    done_before: int = 0
    images: int = 0
    spent: dict[str, float | None] = field(default_factory=dict)
    failed: dict[str, JobResult] = field(default_factory=dict)
    out_of_money: bool = False
    started: float = field(default_factory=time.monotonic)

    @property
    def images_per_sample(self) -> float:
        """Images per finished job; 0 if there is none."""
        return self.images / self.done if self.done else 0.0

    @property
    def rate(self) -> float:
        """Finished jobs per second in this call."""
        return (self.done - self.done_before) / max(1e-9, time.monotonic() - self.started)

    @property
    def is_complete(self) -> bool:
        """Whether every job has its image."""
        return self.done == self.total

    @property
    def usd(self) -> float | None:
        """US dollars spent so far; None if prices are unknown."""
        return sum_prices(self.spent.values())

    def add(self, result: JobResult) -> None:
        """Count a result, which replaces an earlier one of the same job."""
        name = result.job.name
        self.failed.pop(name, None)
        if result.images or result.calls:
            self.spent[name] = result.usd
        if result.error:
            self.failed[name] = result
        else:
            self.done += 1
            self.images += result.images


SaveResult = Callable[[JobResult], Awaitable[None]]
OnProgress = Callable[[JobProgress], None]


async def run_jobs(
    jobs: Sequence[Job],
    engine: Engine,
    progress: JobProgress,
    save: SaveResult,
    *,
    budget_usd: float | None = None,
    retries: int = 1,
    on_progress: OnProgress = lambda _progress: None,
) -> JobProgress:
    """Run all jobs, then retry failed ones.

    Args:
        jobs: The remaining jobs, in order.
        engine: Runs them.
        progress: Updated with every result.
        save: Records a result.
        budget_usd: Start no more jobs after spending this many US dollars.
        retries: Retries of failed jobs after the first pass.
        on_progress: Called after every result.

    Raises:
        ProviderError: too many jobs failed in a row.
        GemsError: an error that affects every job, or a result could not be recorded.
    """
    left = list(jobs)
    for _ in range(retries + 1):
        await _run_pass(left, engine, progress, save, budget_usd, on_progress)
        left = [job for job in left if job.name in progress.failed]
        if not left or progress.out_of_money:
            break
    return progress


async def _run_pass(
    jobs: list[Job],
    engine: Engine,
    progress: JobProgress,
    save: SaveResult,
    budget_usd: float | None,
    on_progress: OnProgress,
) -> None:
    in_a_row = 0
    async with aclosing(engine.run(_within_budget(jobs, progress, budget_usd))) as results:
        async for result in results:
            await save(result)
            progress.add(result)
            on_progress(progress)
            in_a_row = in_a_row + 1 if result.error else 0
            if in_a_row >= MAX_CONSECUTIVE_FAILURES:
                raise ProviderError(
                    f"{in_a_row} samples failed in a row, the last one with: {result.error}",
                    hint="Fix the cause and run the same command again to resume.",
                )


def _within_budget(jobs: list[Job], progress: JobProgress, budget_usd: float | None) -> Iterator[Job]:
    """Yield jobs until the budget is spent."""
    for job in jobs:
        if budget_usd is not None and (progress.usd or 0.0) >= budget_usd:
            progress.out_of_money = True
            return
        yield job


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A sample to generate."""

    prompt: BenchmarkPrompt
    key: SampleKey
    seed: int


async def select_prompts(task: Task, settings: EvalSettings) -> list[BenchmarkPrompt]:
    """Return the prompts of a folder: the first ones of each language, in the benchmark's order.

    Raises `OptionError` for an unsupported language, `DataError` for invalid data.
    """
    if unknown := set(settings.languages) - set(task.languages):
        raise OptionError(
            f"{task.name} has no prompts in {', '.join(sorted(unknown))}.",
            hint=f"It has {', '.join(task.languages)}.",
        )
    found: list[BenchmarkPrompt] = []
    for language in settings.languages:
        prompts = await asyncio.to_thread(task.prompts, Path(settings.data), language)
        found += prompts[: settings.limit]
    return found


def list_samples(prompts: Sequence[BenchmarkPrompt], settings: EvalSettings) -> list[Sample]:
    """Return all samples of the prompts, in order."""
    keys = [(prompt, prompt.key(sample)) for prompt in prompts for sample in range(settings.samples)]
    return [Sample(prompt=prompt, key=key, seed=sample_seed(settings.seed, key)) for prompt, key in keys]


def sample_seed(seed: int, key: SampleKey) -> int:
    """Return the seed of a sample in [0, 2**31); the same for every harness and generator."""
    return derived_seed(seed, *key)


def check_image_budget(harness: Harness, images: int) -> None:
    """Check that the harness can use so many images; raises `OptionError`."""
    if images > harness.most_images:
        raise OptionError(f"{harness.name} generates at most {harness.most_images} images per prompt.")


class BenchmarkRun:
    """The samples of a folder; `extra` holds run options of the generator profile."""

    def __init__(
        self,
        folder: EvalFolder,
        harness: Harness,
        prompts: Sequence[BenchmarkPrompt],
        extra: RunOptions | None = None,
    ) -> None:
        self.folder, self.harness = folder, harness
        self._extra: RunOptions = extra or {}
        self._samples = list_samples(prompts, folder.settings)
        self._by_name = {_sample_name(sample.key): sample for sample in self._samples}

    async def run(
        self,
        engine: Engine,
        *,
        budget_usd: float | None = None,
        retries: int = 1,
        on_progress: OnProgress = lambda _: None,
    ) -> JobProgress:
        """Generate the missing samples; runs of an earlier call are resumed.

        Raises `RequestError` if a sample in the folder has a different prompt, and the errors of `run_jobs`.
        """
        rows = await self.folder.rows()
        self._check_prompts(rows)
        existing = await self.folder.images()
        done = {key for key, row in rows.items() if row.file in existing and not row.error}
        progress = self._counted(list(rows.values()), done)
        on_progress(progress)
        jobs = [self._job(sample) for sample in self._samples if sample.key not in done]
        return await run_jobs(
            jobs,
            engine,
            progress,
            self._save,
            budget_usd=budget_usd,
            retries=retries,
            on_progress=on_progress,
        )

    def _check_prompts(self, rows: dict[SampleKey, SampleRow]) -> None:
        for sample in self._samples:
            row = rows.get(sample.key)
            if row is not None and row.prompt != sample.prompt.text:
                raise RequestError(
                    f"{self.folder.label} holds {_sample_name(sample.key)} for a different prompt: "
                    "the benchmark's data have changed.",
                    hint="Use another folder, or restore the data that the folder was created with.",
                )

    def _counted(self, rows: list[SampleRow], done: set[SampleKey]) -> JobProgress:
        """Return the progress of earlier calls."""
        done_before = [row for row in rows if row.key in done and _sample_name(row.key) in self._by_name]
        return JobProgress(
            total=len(self._samples),
            done=len(done_before),
            done_before=len(done_before),
            images=sum(row.images for row in done_before),
            spent={_sample_name(row.key): row.usd for row in rows if row.images or row.calls},
        )

    def _job(self, sample: Sample) -> Job:
        settings = self.folder.settings
        options: RunOptions = {
            **self.harness.options(settings.images),
            **self._extra,
            "max_images": settings.images,
            "seed": sample.seed,
        }
        if settings.learn:
            options["memory"] = True
        if settings.size:
            options["size"] = settings.size
        return Job(
            name=_sample_name(sample.key),
            run_id=run_id(settings, sample),
            prompt=sample.prompt.text,
            options=options,
            file=image_name(sample.key),
        )

    async def _save(self, result: JobResult) -> None:
        await self.folder.append(self._row(result))

    def _row(self, result: JobResult) -> SampleRow:
        settings, sample = self.folder.settings, self._by_name[result.job.name]
        return SampleRow(
            benchmark=sample.key.benchmark,
            language=sample.key.language,
            prompt_id=sample.key.prompt_id,
            sample=sample.key.sample,
            prompt=sample.prompt.text,
            seed=sample.seed,
            harness=settings.harness,
            generator=settings.generator,
            generator_profile=settings.generator_profile,
            chat=settings.chat,
            **result.manifest_fields(),
        )


def run_id(settings: EvalSettings, sample: Sample) -> str:
    """Return the stable run id of a sample, so that it is found again after a kill."""
    identity = "\x1f".join(map(str, (settings.id, *sample.key, sample.prompt.text)))
    return f"eval-{hashlib.sha256(identity.encode()).hexdigest()[:24]}"


def _sample_name(key: SampleKey) -> str:
    return f"{key.benchmark}/{key.language}/{key.prompt_id} sample {key.sample}"


@asynccontextmanager
async def open_engine(name: EngineName, config: EngineConfig) -> AsyncIterator[Engine]:
    """Open the engine with this name.

    Raises `MissingExtraError` if its packages are missing, `ConfigurationError` if models or stores are
    unusable.
    """
    if name == "ray":
        # Read on import of Ray, which would otherwise abort on SIGTERM instead of stopping in order.
        os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")
        try:
            # Needs the packages of an extra.
            from gems.evals.ray_engine import open_ray  # noqa: PLC0415
        except ImportError as error:
            raise MissingExtraError("--engine ray", "ray") from error
        async with open_ray(config) as engine:
            yield engine
        return
    store = await asyncio.to_thread(FileStore, config.url)
    async with Gems(config.settings, graph=config.graph) as gems:
        yield LocalEngine(gems, store, config.concurrency)


class FailedJob(BaseModel):
    """A sample or row without an image."""

    model_config = ConfigDict(frozen=True)

    name: str
    error: str


class WorkReport(BaseModel):
    """Progress of a benchmark or a batch."""

    model_config = ConfigDict(frozen=True)

    out: str = Field(description="The output folder.")
    total: int
    done: int = Field(description="Those with an image, including those of earlier calls.")
    images: int = Field(description="Images generated for those that are done.")
    usd: float | None = Field(description="US dollars spent so far; None if prices are unknown.")
    out_of_money: bool = Field(description="Whether the budget ran out before all were started.")
    failed: list[FailedJob] = Field(description="Failed; the next call retries them.")
    warnings: list[str] = Field(description="Problems that were tolerated.")

    @classmethod
    def of(cls, progress: JobProgress, out: str, warnings: list[str]) -> WorkReport:
        """Create the report."""
        failed = [FailedJob(name=name, error=result.error) for name, result in progress.failed.items()]
        return cls(
            out=out,
            total=progress.total,
            done=progress.done,
            images=progress.images,
            usd=progress.usd,
            out_of_money=progress.out_of_money,
            failed=failed,
            warnings=warnings,
        )
