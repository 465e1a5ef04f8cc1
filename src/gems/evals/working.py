"""Working through jobs: each once, failed ones again, until all are done or the money is spent."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from gems.errors import ProviderError
from gems.evals.engine_parts.engine import Engine
from gems.evals.jobs import Job, JobResult

MAX_CONSECUTIVE_FAILURES = 25
"""So many failures in a row, and no success among them, mean that something else is wrong than the jobs."""


@dataclass(slots=True, kw_only=True)
class JobProgress:
    """How far it has come.

    Attributes:
        total: Jobs in all, those of earlier calls included.
        done: Jobs that have their image.
        kept: Of these, those that were there before.
        images: Drawn for those that are done.
        spent: US dollars by job, None where prices are not known; failed jobs and earlier calls included.
        failed: The newest ending of each job that has none, by its name.
        out_of_money: Whether the budget ended it.
        began: `time.monotonic()` when it began.
    """

    total: int
    done: int = 0
    kept: int = 0
    images: int = 0
    spent: dict[str, float | None] = field(default_factory=dict)
    failed: dict[str, JobResult] = field(default_factory=dict)
    out_of_money: bool = False
    began: float = field(default_factory=time.monotonic)

    @property
    def images_each(self) -> float:
        """Images for each sample that is done; 0 while there is none."""
        return self.images / self.done if self.done else 0.0

    @property
    def rate(self) -> float:
        """Samples a second in this call."""
        return (self.done - self.kept) / max(1e-9, time.monotonic() - self.began)

    @property
    def is_complete(self) -> bool:
        """Whether every job has its image."""
        return self.done == self.total

    @property
    def usd(self) -> float | None:
        """US dollars spent so far; None where prices are not known."""
        prices = list(self.spent.values())
        return None if None in prices else sum(price or 0.0 for price in prices)

    def take(self, ending: JobResult) -> None:
        """Count an ending in place of an earlier one of the same job."""
        name = ending.job.name
        self.failed.pop(name, None)
        if ending.images or ending.calls:
            self.spent[name] = ending.usd
        if ending.error:
            self.failed[name] = ending
        else:
            self.done += 1
            self.images += ending.images


SaveResult = Callable[[JobResult], Awaitable[None]]
OnProgress = Callable[[JobProgress], None]


async def run_jobs(
    jobs: Sequence[Job],
    engine: Engine,
    tally: JobProgress,
    keep: SaveResult,
    *,
    budget_usd: float | None = None,
    retries: int = 1,
    tell: OnProgress = lambda _tally: None,
) -> JobProgress:
    """Work off all jobs, and failed ones again.

    Args:
        jobs: What is left to do, in order.
        engine: Where.
        tally: What was done before.
        keep: Writes an ending down.
        budget_usd: No job is begun once so much is spent.
        retries: How often failed jobs are tried again.
        tell: Hears how far it has come.

    Raises:
        ProviderError: one job after another failed.
        GemsError: something is wrong that no job would escape, or an ending could not be written down.
    """
    left = list(jobs)
    for _ in range(retries + 1):
        await _run_pass(left, engine, tally, keep, budget_usd, tell)
        left = [job for job in left if job.name in tally.failed]
        if not left or tally.out_of_money:
            break
    return tally


async def _run_pass(
    jobs: list[Job],
    engine: Engine,
    tally: JobProgress,
    keep: SaveResult,
    budget_usd: float | None,
    tell: OnProgress,
) -> None:
    in_a_row = 0
    async with aclosing(engine.endings(_within_budget(jobs, tally, budget_usd))) as endings:
        async for ending in endings:
            await keep(ending)
            tally.take(ending)
            tell(tally)
            in_a_row = in_a_row + 1 if ending.error else 0
            if in_a_row >= MAX_CONSECUTIVE_FAILURES:
                raise ProviderError(
                    f"{in_a_row} samples failed one after another, the last with: {ending.error}",
                    hint="Mend what is wrong and run the same command again; it goes on where it stopped.",
                )


def _within_budget(jobs: list[Job], tally: JobProgress, budget_usd: float | None) -> Iterator[Job]:
    """The jobs until the budget is spent."""
    for job in jobs:
        if budget_usd is not None and (tally.usd or 0.0) >= budget_usd:
            tally.out_of_money = True
            return
        yield job
