"""One run to carry out for an output folder, and what came of it; both travel between machines."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from gems.arguments import RunOptions
from gems.errors import (
    ConfigurationError,
    DiskFullError,
    GemsError,
    RunBusyError,
    RunDrainedError,
    RunNotFoundError,
)
from gems.memory.file_store import FileStore
from gems.results import RunResult
from gems.service import Gems

_FATAL = (ConfigurationError, DiskFullError, RunDrainedError)
"""What would go wrong with every other job as well, or means that the process is to end."""
_BUSY_TIMEOUT_S = 60.0
_BUSY_POLL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run to carry out.

    Attributes:
        name: Names it for people.
        run_id: What the run is called, the same whenever and wherever the job is begun.
        prompt: What to draw.
        options: The run's options.
        file: Where its image goes, relative to the output folder.
    """

    name: str
    run_id: str
    prompt: str
    options: RunOptions
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """What came of a job.

    Attributes:
        job: The job.
        file: Where its image lies, relative to the output folder; empty where there is none.
        sha256: Of the file's bytes.
        error: Why there is none; empty where there is one.
        rounds: How many there were.
        images: How many were drawn.
        calls: How many chat calls were made.
        input_tokens: Of these calls.
        output_tokens: Of these calls.
        usd: US dollars; None where prices are not known.
        seconds: Wall time of the rounds.
        skills: Those that were chosen.
        requirements: How many the run had.
        met: Of these by the image, by the run's own judge.
        stop_reason: Why the run ended.
        warnings: What went wrong without ending it.
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

    def recorded(self) -> dict[str, Any]:
        """What the rows of manifests keep of it, by the names of their fields."""
        kept = {each.name: getattr(self, each.name) for each in fields(self)}
        del kept["job"], kept["warnings"]
        return kept | {"run_id": self.job.run_id, "skills": list(self.skills)}


async def run_job(gems: Gems, job: Job, store: FileStore) -> JobResult:
    """Carry out a job, or go on with it where it was begun before, and write its image.

    A run that a fault ended counts as failed although it has an image: it is not what the harness would have
    drawn, and goes on when the job is tried again.

    Raises:
        ConfigurationError: the models cannot be used, which no other job would find otherwise.
        DiskFullError: no space is left for the image.
        RunDrainedError: the process is to end.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="gems-job-") as folder:
            result = await _run_when_free(gems, job, Path(folder) / "image.png")
            ending = _job_result(job, result)
            if result.stop_reason in ("failed", "cancelled"):
                return replace(ending, error=_failure_text(result))
            return await _write_image(ending, gems, result, store)
    except _FATAL:
        raise
    except GemsError as error:
        return replace(await _partial_result(gems, job), error=f"{type(error).__name__}: {error}")


async def _run_when_free(gems: Gems, job: Job, out: Path) -> RunResult:
    """The run's result; a run that somebody else works on is waited for."""
    patient_until = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            return await _resume_or_start(gems, job, out)
        except RunBusyError:
            # Where a machine has died, its lock may outlive it for a moment.
            if time.monotonic() > patient_until:
                raise
            await asyncio.sleep(_BUSY_POLL_S)


async def _resume_or_start(gems: Gems, job: Job, out: Path) -> RunResult:
    try:
        return await gems.resume(job.run_id, out=out)
    except RunNotFoundError:
        return await gems.run(job.prompt, **job.options, new_id=job.run_id, out=out)


async def _write_image(ending: JobResult, gems: Gems, result: RunResult, store: FileStore) -> JobResult:
    """The ending with the image written to the output folder, as the run saved it."""
    if result.path is not None:
        png = await asyncio.to_thread(Path(result.path).read_bytes)
    else:
        png = await gems.resources.images.load(result.image_id or "")
    await asyncio.to_thread(store.write, ending.job.file, png)
    return replace(ending, file=ending.job.file, sha256=hashlib.sha256(png).hexdigest())


def _failure_text(result: RunResult) -> str:
    if result.failure is None:
        return f"The run was {result.stop_reason}."
    return f"{result.failure['error']}: {result.failure['message']}"


async def _partial_result(gems: Gems, job: Job) -> JobResult:
    """What a run that failed has consumed; it counts, although there is no image."""
    try:
        return _job_result(job, await gems.show(job.run_id))
    except GemsError:
        # Nothing was begun, or the stores that would tell are what has failed.
        return JobResult(job=job)


def _job_result(job: Job, result: RunResult) -> JobResult:
    asked = [used for role, used in result.usage.items() if role != "generator"]
    prices = [used["usd"] for used in result.usage.values()]
    return JobResult(
        job=job,
        rounds=len(result.rounds),
        images=sum(len(turn["candidates"]) for turn in result.rounds),
        calls=sum(used["calls"] for used in asked),
        input_tokens=sum(used["input_tokens"] for used in asked),
        output_tokens=sum(used["output_tokens"] for used in asked),
        usd=None if None in prices else sum(price or 0.0 for price in prices),
        seconds=result.seconds,
        skills=tuple(result.plan["skills"]) if result.plan else (),
        requirements=len(result.requirements),
        met=sum(item.answer == "yes" for item in result.requirements),
        stop_reason=result.stop_reason or "",
        warnings=tuple(result.warnings),
    )
