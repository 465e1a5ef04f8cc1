"""The engine of one machine: runs side by side in this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator

from gems.evals.engine_parts.engine import run_concurrently
from gems.evals.jobs import Job, JobResult, run_job
from gems.memory.file_store import FileStore
from gems.service import Gems


class LocalEngine:
    """Works off jobs with an opened `Gems`.

    Args:
        gems: Opened with the harness's graph.
        store: The output folder.
        concurrency: Runs at a time.
    """

    def __init__(self, gems: Gems, store: FileStore, concurrency: int) -> None:
        self._gems, self._store, self._concurrency = gems, store, concurrency

    def endings(self, jobs: Iterator[Job]) -> AsyncGenerator[JobResult]:
        """See `Engine`."""
        return run_concurrently(jobs, self._concurrency, self._work_off)

    async def _work_off(self, job: Job) -> JobResult:
        return await run_job(self._gems, job, self._store)
