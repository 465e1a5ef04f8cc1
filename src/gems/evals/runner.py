"""Run the jobs of a folder with retries and budget, and the samples of a benchmark."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from gems.errors import MissingExtraError, OptionError, ProviderError, RequestError
from gems.evals.engines import Engine, EngineConfig, EngineName, LocalEngine
from gems.evals.harnesses import Harness
from gems.evals.jobs import Job, JobResult
from gems.evals.output_folder import EvalFolder, EvalSettings, image_name
from gems.evals.records import BenchmarkPrompt, JobOutcome, SampleKey, SampleRow
from gems.evals.task import Task
from gems.memory.file_store import FileStore
from gems.options import RunOptions, derived_seed
from gems.service import Gems
from gems.types import sum_prices

MAX_CONSECUTIVE_FAILURES = 25
"""So many failures in a row mean that the jobs are not the cause."""


@dataclass(slots=True, kw_only=True)
class JobProgress:
    """Progress of all jobs, including those of earlier calls."""

    total: int
    done: int = 0
    """Jobs with an image."""
    done_before: int = 0
    """Jobs that earlier calls finished."""
    images: int = 0
    """Images of finished jobs."""
    spent: dict[str, float | None] = field(default_factory=dict)
    """US dollars by job, None if prices are unknown; includes failed jobs."""
    failed: dict[str, JobResult] = field(default_factory=dict)
    """The newest result of each failed job, by name."""
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
        name = result.name
        self.failed.pop(name, None)
        if result.images or result.calls:
            self.spent[name] = result.usd
        if result.error:
            self.failed[name] = result
        else:
            self.done += 1
            self.images += result.images


OnProgress = Callable[[JobProgress], None]


class JobRunner(ABC):
    """Runs the jobs of a folder, by name, and records their results in its manifest."""

    jobs: Mapping[str, Job]

    @abstractmethod
    async def read_manifest(self) -> Mapping[str, JobOutcome]:
        """Return the newest row of each job, including jobs of other calls."""

    @abstractmethod
    async def list_images(self) -> set[str]:
        """Return the names of all existing images, relative to the folder."""

    @abstractmethod
    async def save(self, result: JobResult) -> None:
        """Append a result to the manifest."""

    async def run(
        self,
        engine: Engine,
        *,
        budget_usd: float | None = None,
        retries: int = 1,
        on_progress: OnProgress = lambda _: None,
    ) -> JobProgress:
        """Generate the missing images, then retry failed ones; runs of an earlier call are resumed.

        No more jobs are started after spending `budget_usd`. Raises `ProviderError` if too many jobs failed
        in a row, and errors that affect every job.
        """
        known, existing = await self.read_manifest(), await self.list_images()
        done = {
            name: row
            for name, row in known.items()
            if name in self.jobs and self._is_done(row, self.jobs[name], existing)
        }
        progress = JobProgress(
            total=len(self.jobs),
            done=len(done),
            done_before=len(done),
            images=sum(row.images for row in done.values()),
            spent={name: row.usd for name, row in known.items() if row.images or row.calls},
        )
        on_progress(progress)
        left = [job for name, job in self.jobs.items() if name not in done]
        for _ in range(retries + 1):
            await self._run_pass(_within_budget(left, progress, budget_usd), engine, progress, on_progress)
            left = [job for job in left if job.name in progress.failed]
            if not left or progress.out_of_money:
                break
        return progress

    def _is_done(self, row: JobOutcome, job: Job, existing: set[str]) -> bool:
        # Jobs that were changed since then have another run id.
        return not row.error and row.file in existing and row.run_id in ("", job.run_id)

    async def _run_pass(
        self, jobs: Iterator[Job], engine: Engine, progress: JobProgress, on_progress: OnProgress
    ) -> None:
        in_a_row = 0
        async with aclosing(engine.run(jobs)) as results:
            async for result in results:
                await self.save(result)
                progress.add(result)
                on_progress(progress)
                in_a_row = in_a_row + 1 if result.error else 0
                if in_a_row >= MAX_CONSECUTIVE_FAILURES:
                    raise ProviderError(
                        f"{in_a_row} samples failed in a row, the last one with: {result.error}",
                        hint="Fix the cause and run the same command again to resume.",
                    )


def _within_budget(jobs: Sequence[Job], progress: JobProgress, budget_usd: float | None) -> Iterator[Job]:
    """Yield jobs until the budget is spent."""
    for job in jobs:
        if budget_usd is not None and (progress.usd or 0.0) >= budget_usd:
            progress.out_of_money = True
            return
        yield job


async def select_prompts(task: Task, settings: EvalSettings) -> list[BenchmarkPrompt]:
    """Return the prompts of a folder: the first ones of each language, in the benchmark's order.

    Raises `OptionError` for an unsupported language, `DataError` for invalid data.
    """
    if unknown := set(settings.languages) - set(task.languages):
        raise OptionError(
            f"{task.name} has no prompts in {', '.join(sorted(unknown))}.", hint=f"It has {', '.join(task.languages)}."
        )
    found = await task.prompts_by_language(Path(settings.data), settings.languages, settings.limit)
    return [prompt for prompts in found.values() for prompt in prompts]


def sample_seed(seed: int, key: SampleKey) -> int:
    """Return the seed of a sample in [0, COMMON_SEEDS); the same for every harness and generator."""
    return derived_seed(seed, *key)


def check_image_budget(harness: Harness, images: int) -> None:
    """Check that the harness can use so many images; raises `OptionError`."""
    if images > harness.most_images:
        raise OptionError(f"{harness.name} generates at most {harness.most_images} images per prompt.")


class BenchmarkRun(JobRunner):
    """The samples of a folder; `extra` holds run options of the generator profile."""

    def __init__(
        self, folder: EvalFolder, harness: Harness, prompts: Sequence[BenchmarkPrompt], extra: RunOptions | None = None
    ) -> None:
        self.folder, settings = folder, folder.settings
        self._prompts = {prompt.key(sample): prompt for prompt in prompts for sample in range(settings.samples)}
        self._keys = {_sample_name(key): key for key in self._prompts}
        self._options: RunOptions = {**harness.options(settings.images), **(extra or {})}
        self._options["max_images"] = settings.images
        if settings.learn:
            self._options["memory"] = True
        if settings.size:
            self._options["size"] = settings.size
        self.jobs = {name: self._job(name, key) for name, key in self._keys.items()}

    def _job(self, name: str, key: SampleKey) -> Job:
        settings, text = self.folder.settings, self._prompts[key].text
        # Stable, so that the run is found again after a kill.
        identity = "\x1f".join(map(str, (settings.id, *key, text)))
        return Job(
            name=name,
            run_id=f"eval-{hashlib.sha256(identity.encode()).hexdigest()[:24]}",
            prompt=text,
            options={**self._options, "seed": sample_seed(settings.seed, key)},
            file=image_name(key),
        )

    async def read_manifest(self) -> dict[str, SampleRow]:
        """Return the newest row of each sample; raises `RequestError` if one has a different prompt."""
        rows = await self.folder.rows()
        for key, prompt in self._prompts.items():
            if key in rows and rows[key].prompt != prompt.text:
                raise RequestError(
                    f"{self.folder.label} holds {_sample_name(key)} for a different prompt: "
                    "the benchmark's data have changed.",
                    hint="Use another folder, or restore the data that the folder was created with.",
                )
        return {_sample_name(key): row for key, row in rows.items()}

    async def list_images(self) -> set[str]:
        """Return the names of all existing images, relative to the folder."""
        return await self.folder.images()

    async def save(self, result: JobResult) -> None:
        """Append the row of a sample."""
        settings, key = self.folder.settings, self._keys[result.name]
        row = {
            **key._asdict(),
            "prompt": self._prompts[key].text,
            "seed": sample_seed(settings.seed, key),
            "harness": settings.harness,
            "generator": settings.generator,
            "generator_profile": settings.generator_profile,
            "chat": settings.chat,
        }
        await self.folder.append(SampleRow.model_validate(row | result.outcome()))


def _sample_name(key: SampleKey) -> str:
    return f"{key.benchmark}/{key.language}/{key.prompt_id} sample {key.sample}"


@asynccontextmanager
async def open_engine(name: EngineName, config: EngineConfig) -> AsyncIterator[Engine]:
    """Open an engine; raises `MissingExtraError`, or `ConfigurationError` for unusable models or stores."""
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
        return cls(
            out=out,
            total=progress.total,
            done=progress.done,
            images=progress.images,
            usd=progress.usd,
            out_of_money=progress.out_of_money,
            failed=[FailedJob(name=each.name, error=each.error) for each in progress.failed.values()],
            warnings=warnings,
        )
