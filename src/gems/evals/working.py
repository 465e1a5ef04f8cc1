"""Run jobs once, retry failed ones, and stop when the budget is spent."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from gems.errors import ProviderError
from gems.evals.engines import Engine
from gems.evals.jobs import Job, JobResult

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
        prices = list(self.spent.values())
        return None if None in prices else sum(price or 0.0 for price in prices)

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
