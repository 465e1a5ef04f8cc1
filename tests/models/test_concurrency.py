"""Places at an endpoint: how many, whose turn it is, and what a 429 changes."""

from __future__ import annotations

import asyncio

import pytest

from gems.errors import RateLimitError, ServerError
from gems.models.concurrency import AdaptiveLimiter
from gems.observability.logging import within_run
from tests.support.scripted_service import PATIENCE_S


class Desk:
    """Requests that stay under way until they are let go."""

    def __init__(self, limiter: AdaptiveLimiter) -> None:
        self.limiter = limiter
        self.order: list[str] = []
        self.most = 0
        self._under_way = 0
        self.go = asyncio.Event()

    async def ask(self, run: str, error: Exception | None = None) -> None:
        with within_run(run):
            async with self.limiter.slot():
                self._under_way += 1
                self.most = max(self.most, self._under_way)
                self.order.append(run)
                try:
                    await self.go.wait()
                    await asyncio.sleep(0)
                finally:
                    self._under_way -= 1
                if error is not None:
                    raise error


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_no_more_than_so_many_at_a_time() -> None:
    desk = Desk(AdaptiveLimiter(3))
    asked = [asyncio.create_task(desk.ask(f"r{n}")) for n in range(10)]
    await settled()
    assert len(desk.order) == 3
    desk.go.set()
    await asyncio.gather(*asked)
    assert (desk.most, len(desk.order)) == (3, 10)


async def test_a_run_with_many_questions_does_not_hold_up_others() -> None:
    desk = Desk(AdaptiveLimiter(1))
    asked = [asyncio.create_task(desk.ask("greedy")) for _ in range(5)]
    await settled()
    asked += [asyncio.create_task(desk.ask(run)) for run in ("b", "c", "b")]
    await settled()
    desk.go.set()
    await asyncio.gather(*asked)
    assert desk.order == ["greedy", "greedy", "b", "c", "greedy", "b", "greedy", "greedy"]


async def test_who_gives_up_waiting_takes_no_place() -> None:
    desk = Desk(AdaptiveLimiter(1))
    first = asyncio.create_task(desk.ask("a"))
    await settled()
    impatient = [asyncio.create_task(desk.ask("b")) for _ in range(3)]
    patient = asyncio.create_task(desk.ask("c"))
    await settled()
    for task in impatient:
        task.cancel()
    desk.go.set()
    # It is given away in the same step in which those who gave up are still in the queue.
    await asyncio.gather(first, patient)
    assert [task.cancelled() for task in impatient] == [True] * 3
    await asyncio.wait_for(desk.ask("d"), 1)
    assert desk.order == ["a", "c", "d"]


async def test_a_place_given_to_one_that_is_cancelled_goes_on() -> None:
    limiter = AdaptiveLimiter(1)
    async with limiter.slot():
        waiting = asyncio.create_task(Desk(limiter).ask("a"))
        await settled()
    # The place is its own by now, and it has not run since.
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(PATIENCE_S), limiter.slot():
        pass


async def test_requests_turned_away_together_halve_the_places_once() -> None:
    desk = Desk(AdaptiveLimiter(8))
    asked = [asyncio.create_task(desk.ask("a", RateLimitError("slow down"))) for _ in range(8)]
    await settled()
    desk.go.set()
    assert all(isinstance(end, RateLimitError) for end in await asyncio.gather(*asked, return_exceptions=True))
    assert desk.limiter.allowed == 4
    with pytest.raises(RateLimitError):
        await desk.ask("a", RateLimitError("slow down"))
    assert desk.limiter.allowed == 2


async def test_answers_let_more_in_again_and_never_more_than_allowed() -> None:
    desk = Desk(AdaptiveLimiter(4))
    desk.go.set()
    for _ in range(3):
        with pytest.raises(RateLimitError):
            await desk.ask("a", RateLimitError("slow down"))
    assert desk.limiter.allowed == 1
    seen = []
    for _ in range(20):
        await desk.ask("a")
        seen.append(desk.limiter.allowed)
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (2, 4)


async def test_other_faults_are_no_reason_to_hold_back() -> None:
    desk = Desk(AdaptiveLimiter(4))
    desk.go.set()
    with pytest.raises(ServerError):
        await desk.ask("a", ServerError("down"))
    assert desk.limiter.allowed == 4


async def test_nobody_asks_while_the_endpoint_wants_rest() -> None:
    desk = Desk(AdaptiveLimiter(4))
    desk.go.set()
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(RateLimitError):
        await desk.ask("a", RateLimitError("slow down", retry_after=0.2))
    await asyncio.gather(desk.ask("b"), desk.ask("c"))
    assert loop.time() - began >= 0.19
    # What asks for more than anybody waits for is raised to the caller instead.
    with pytest.raises(RateLimitError):
        await desk.ask("a", RateLimitError("slow down", retry_after=3600.0))
    await asyncio.wait_for(desk.ask("b"), 1)


def test_a_rest_that_an_event_loop_does_not_outlive_ends_all_the_same() -> None:
    limiter = AdaptiveLimiter(1)

    async def turned_away() -> None:
        async with limiter.slot():
            raise RateLimitError("slow down", retry_after=0.2)

    async def impatient() -> None:
        with pytest.raises(RateLimitError):
            await turned_away()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(Desk(limiter).ask("a"), 0.05)

    async def later() -> None:
        desk = Desk(limiter)
        desk.go.set()
        await asyncio.wait_for(desk.ask("b"), 2)

    asyncio.run(impatient())
    asyncio.run(later())
