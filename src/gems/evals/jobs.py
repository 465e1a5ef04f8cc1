"""Run one job of an output folder; jobs and their results are picklable for other machines."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from gems.errors import ConfigurationError, DiskFullError, GemsError, RunBusyError, RunDrainedError, RunNotFoundError
from gems.evals.records import JobOutcome
from gems.memory.file_store import FileStore
from gems.options import RunOptions
from gems.results import RunResult
from gems.service import Gems
from gems.types import total_usage

_FATAL = (ConfigurationError, DiskFullError, RunDrainedError)
"""Errors that would affect all other jobs too, or that mean that the process must stop."""
_BUSY_TIMEOUT_S = 60.0
_BUSY_POLL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run to execute.

    Attributes:
        name: The name in messages.
        run_id: Stable, so that a job that starts again resumes its run.
        file: The image file, relative to the output folder.
    """

    name: str
    run_id: str
    prompt: str
    options: RunOptions
    file: str


class JobResult(JobOutcome):
    """The result of a job, with the problems that did not end its run."""

    name: str
    seed: int | None = None
    """The run's seed; None if no run was started."""
    warnings: tuple[str, ...] = ()

    def outcome(self) -> dict[str, object]:
        """Return the fields that manifest rows record."""
        return self.model_dump(exclude={"name", "seed", "warnings"})


async def run_job(gems: Gems, job: Job, store: FileStore) -> JobResult:
    """Start or resume the run of a job and write its image.

    A run that failed or was cancelled counts as failed even if it has an image, and is resumed on retry.
    Raises `ConfigurationError`, `DiskFullError` and `RunDrainedError`, which would affect every job.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="gems-job-") as folder:
            result = await _run_when_free(gems, job, Path(folder) / "image.png")
            job_result = _job_result(job, result)
            if result.stop_reason in ("failed", "cancelled"):
                failure = result.failure
                why = f"{failure['error']}: {failure['message']}" if failure else f"The run was {result.stop_reason}."
                return job_result.model_copy(update={"error": why})
            if result.path is not None:
                png = await asyncio.to_thread(Path(result.path).read_bytes)
            else:
                png = await gems.resources.images.load(result.image_id or "")
            await asyncio.to_thread(store.write, job.file, png)
            return job_result.model_copy(update={"file": job.file, "sha256": hashlib.sha256(png).hexdigest()})
    except _FATAL:
        raise
    except GemsError as error:
        partial = await _partial_result(gems, job)
        return partial.model_copy(update={"error": f"{type(error).__name__}: {error}"})


async def _run_when_free(gems: Gems, job: Job, out: Path) -> RunResult:
    """Return the run's result; waits while another process holds the run."""
    deadline = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            try:
                return await gems.resume(job.run_id, out=out)
            except RunNotFoundError:
                return await gems.run(job.prompt, **job.options, new_id=job.run_id, out=out)
        except RunBusyError:
            # The lock of a dead machine may outlive it for a moment.
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(_BUSY_POLL_S)


async def _partial_result(gems: Gems, job: Job) -> JobResult:
    """Return what a failed run has consumed; it counts although there is no image."""
    try:
        return _job_result(job, await gems.show(job.run_id))
    except GemsError:
        # No run was started, or the stores themselves have failed.
        return JobResult(name=job.name, run_id=job.run_id)


def _job_result(job: Job, result: RunResult) -> JobResult:
    chat = total_usage(result.usage, chat_only=True)
    return JobResult(
        name=job.name,
        run_id=job.run_id,
        seed=result.options["seed"],
        rounds=len(result.rounds),
        images=sum(len(turn["candidates"]) for turn in result.rounds),
        calls=chat["calls"],
        input_tokens=chat["input_tokens"],
        output_tokens=chat["output_tokens"],
        usd=total_usage(result.usage)["usd"],
        seconds=result.seconds,
        skills=result.plan["skills"] if result.plan else [],
        requirements=len(result.requirements),
        met=sum(item.answer == "yes" for item in result.requirements),
        stop_reason=result.stop_reason or "",
        warnings=tuple(result.warnings),
    )
