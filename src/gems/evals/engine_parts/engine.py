"""What an engine is: where jobs are worked off, and how many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Protocol

from gems.evals.jobs import Job, JobResult


class Engine(Protocol):
    """Works off jobs, several at a time."""

    def endings(self, jobs: Iterator[Job]) -> AsyncGenerator[JobResult]:
        """The endings of all jobs as they come; the next job is taken when there is room for it.

        A consumer that stops listening interrupts the runs in hand, which go on when their jobs are begun
        again.

        Raises:
            GemsError: something that would go wrong with every job; see `gems.evals.jobs.work_off`.
        """
        ...


async def run_concurrently(
    jobs: Iterator[Job], at_a_time: int, doing: Callable[[Job], Awaitable[JobResult]]
) -> AsyncGenerator[JobResult]:
    """The endings of jobs that are done side by side, as they come."""
    running: set[asyncio.Future[JobResult]] = set()
    try:
        while True:
            while len(running) < at_a_time and (job := next(jobs, None)) is not None:
                running.add(asyncio.ensure_future(doing(job)))
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            # What has come to its end is told before anything that broke is raised.
            for task in sorted(done, key=lambda task: task.exception() is not None):
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
