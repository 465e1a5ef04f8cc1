"""The engine for one machine: concurrent runs in this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator

from gems.evals.engine_parts.engine import run_concurrently
from gems.evals.jobs import Job, JobResult, run_job
from gems.memory.file_store import FileStore
from gems.service import Gems


class LocalEngine:
    """Run jobs with an open `Gems` that has the harness's graph."""

    def __init__(self, gems: Gems, store: FileStore, concurrency: int) -> None:
        self._gems, self._store, self._concurrency = gems, store, concurrency

    def run(self, jobs: Iterator[Job]) -> AsyncGenerator[JobResult]:
        """Yield results in order of completion."""
        return run_concurrently(jobs, self._concurrency, self._run_job)

    async def _run_job(self, job: Job) -> JobResult:
        return await run_job(self._gems, job, self._store)
