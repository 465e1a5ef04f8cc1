"""The engine protocol: where jobs run and how many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Protocol

from gems.evals.jobs import Job, JobResult


class Engine(Protocol):
    """Runs jobs concurrently."""

    def run(self, jobs: Iterator[Job]) -> AsyncGenerator[JobResult]:
        """Yield results in order of completion; jobs are taken as capacity becomes free.

        If the consumer stops, running jobs are interrupted; they resume when they start again.

        Raises:
            GemsError: an error that affects every job, as from `gems.evals.jobs.run_job`.
        """
        ...


async def run_concurrently(
    jobs: Iterator[Job], limit: int, run_one: Callable[[Job], Awaitable[JobResult]]
) -> AsyncGenerator[JobResult]:
    """Run at most `limit` jobs at a time and yield results in order of completion."""
    running: set[asyncio.Future[JobResult]] = set()
    try:
        while True:
            while len(running) < limit and (job := next(jobs, None)) is not None:
                running.add(asyncio.ensure_future(run_one(job)))
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            # Results are yielded before errors are raised.
            for task in sorted(done, key=lambda task: task.exception() is not None):
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
