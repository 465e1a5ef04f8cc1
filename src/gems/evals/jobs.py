"""Run one job of an output folder; jobs and their results are picklable for other machines."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from gems.errors import (
    ConfigurationError,
    DiskFullError,
    GemsError,
    RunBusyError,
    RunDrainedError,
    RunNotFoundError,
)
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
        run_id: Stable run id, so that a job that starts again resumes its run.
        prompt: The prompt.
        options: The run's options.
        file: The image file, relative to the output folder.
    """

    name: str
    run_id: str
    prompt: str
    options: RunOptions
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """The result of a job.

    Attributes:
        job: The job.
        file: The image file, relative to the output folder; empty if there is none.
        sha256: Of the file's bytes.
        error: Why there is no image; empty if there is one.
        rounds: Number of rounds.
        images: Number of generated images.
        calls: Number of chat calls.
        input_tokens: Of all chat calls.
        output_tokens: Of all chat calls.
        usd: US dollars; None if prices are unknown.
        seconds: Wall time of the rounds.
        skills: The chosen skills.
        requirements: Number of requirements of the run.
        met: Requirements that the image meets according to the run's own judge.
        stop_reason: Why the run ended.
        warnings: Problems that did not end the run.
    """

    job: Job
    file: str = ""
    sha256: str = ""
    error: str = ""
    rounds: int = 0
    images: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = None
    seconds: float = 0.0
    skills: tuple[str, ...] = ()
    requirements: int = 0
    met: int = 0
    stop_reason: str = ""
    warnings: tuple[str, ...] = ()

    def manifest_fields(self) -> dict[str, Any]:
        """Return the fields that manifest rows record."""
        kept = {each.name: getattr(self, each.name) for each in fields(self)}
        del kept["job"], kept["warnings"]
        return kept | {"run_id": self.job.run_id, "skills": list(self.skills)}


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
                return replace(job_result, error=_failure_text(result))
            return await _write_image(job_result, gems, result, store)
    except _FATAL:
        raise
    except GemsError as error:
        return replace(await _partial_result(gems, job), error=f"{type(error).__name__}: {error}")


async def _run_when_free(gems: Gems, job: Job, out: Path) -> RunResult:
    """Return the run's result; waits while another process holds the run."""
    deadline = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            return await _resume_or_start(gems, job, out)
        except RunBusyError:
            # The lock of a dead machine may outlive it for a moment.
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(_BUSY_POLL_S)


async def _resume_or_start(gems: Gems, job: Job, out: Path) -> RunResult:
    try:
        return await gems.resume(job.run_id, out=out)
    except RunNotFoundError:
        return await gems.run(job.prompt, **job.options, new_id=job.run_id, out=out)


async def _write_image(job_result: JobResult, gems: Gems, result: RunResult, store: FileStore) -> JobResult:
    """Write the image to the output folder and return the updated result."""
    if result.path is not None:
        png = await asyncio.to_thread(Path(result.path).read_bytes)
    else:
        png = await gems.resources.images.load(result.image_id or "")
    await asyncio.to_thread(store.write, job_result.job.file, png)
    return replace(job_result, file=job_result.job.file, sha256=hashlib.sha256(png).hexdigest())


def _failure_text(result: RunResult) -> str:
    if result.failure is None:
        return f"The run was {result.stop_reason}."
    return f"{result.failure['error']}: {result.failure['message']}"


async def _partial_result(gems: Gems, job: Job) -> JobResult:
    """Return what a failed run has consumed; it counts although there is no image."""
    try:
        return _job_result(job, await gems.show(job.run_id))
    except GemsError:
        # No run was started, or the stores themselves have failed.
        return JobResult(job=job)


def _job_result(job: Job, result: RunResult) -> JobResult:
    chat = total_usage(result.usage, chat_only=True)
    return JobResult(
        job=job,
        rounds=len(result.rounds),
        images=sum(len(turn["candidates"]) for turn in result.rounds),
        calls=chat["calls"],
        input_tokens=chat["input_tokens"],
        output_tokens=chat["output_tokens"],
        usd=total_usage(result.usage)["usd"],
        seconds=result.seconds,
        skills=tuple(result.plan["skills"]) if result.plan else (),
        requirements=len(result.requirements),
        met=sum(item.answer == "yes" for item in result.requirements),
        stop_reason=result.stop_reason or "",
        warnings=tuple(result.warnings),
    )
