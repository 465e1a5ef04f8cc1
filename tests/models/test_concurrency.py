"""Places at an endpoint: how many, whose turn it is, and what a 429 changes."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from gems.errors import ProviderTimeoutError, RateLimitError, ServerError
from gems.models.concurrency import AdaptiveLimiter
from gems.observability.logging import within_run
from tests.support.scripted_service import PATIENCE_S
from tests.support.virtual_time import run_in_virtual_time


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


def test_nobody_asks_while_the_endpoint_wants_rest() -> None:
    async def ask() -> None:
        desk = Desk(AdaptiveLimiter(4))
        desk.go.set()
        loop = asyncio.get_running_loop()
        with pytest.raises(RateLimitError):
            await desk.ask("a", RateLimitError("slow down", retry_after=20.0))
        await asyncio.gather(desk.ask("b"), desk.ask("c"))
        assert loop.time() == pytest.approx(20.0)
        # What asks for more than anybody waits for is raised to the caller instead.
        with pytest.raises(RateLimitError):
            await desk.ask("a", RateLimitError("slow down", retry_after=3600.0))
        await desk.ask("b")
        assert loop.time() == pytest.approx(20.0)

    run_in_virtual_time(ask())


def test_a_rest_that_an_event_loop_does_not_outlive_ends_all_the_same() -> None:
    limiter = AdaptiveLimiter(1)

    async def turned_away() -> None:
        async with limiter.slot():
            raise RateLimitError("slow down", retry_after=20.0)

    async def impatient() -> None:
        with pytest.raises(RateLimitError):
            await turned_away()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(Desk(limiter).ask("a"), 5)

    async def later() -> None:
        desk = Desk(limiter)
        desk.go.set()
        await asyncio.wait_for(desk.ask("b"), 30)

    run_in_virtual_time(impatient())
    run_in_virtual_time(later())


@dataclass
class Server:
    """An endpoint in virtual time.

    Attributes:
        seconds: Time of a request by kind, when it is the only one.
        workers: Requests that are worked on at a time, in the order they came.
        batching: Share of `seconds` that a request takes more for each other one at the same time.
        refuses: Requests at a time from which on others get a 429.
        spread: Standard deviation of the logarithm of the time, as of answers of all lengths.
    """

    seconds: dict[str, float] = field(default_factory=lambda: {"": 1.0})
    workers: float = math.inf
    batching: float = 0.0
    refuses: float = math.inf
    spread: float = 0.0
    refused: int = 0
    done: int = 0
    peak: int = 0
    _here: int = 0
    _busy: int = 0
    _queue: deque[asyncio.Future[None]] = field(default_factory=deque)
    _chance: random.Random = field(default_factory=lambda: random.Random(1))

    async def serve(self, kind: str = "") -> None:
        if self._here >= self.refuses:
            self.refused += 1
            await asyncio.sleep(0.01)
            raise RateLimitError("slow down")
        self._here += 1
        self.peak = max(self.peak, self._here)
        try:
            if self._busy >= self.workers:
                turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._queue.append(turn)
                await turn
            else:
                self._busy += 1
            length = math.exp(self._chance.gauss(0, self.spread) - self.spread**2 / 2)
            await asyncio.sleep(self.seconds[kind] * length * (1 + self.batching * (self._here - 1)))
            if self._queue and self._busy <= self.workers:
                self._queue.popleft().set_result(None)
            else:
                self._busy -= 1
            self.done += 1
        finally:
            self._here -= 1


async def use(limiter: AdaptiveLimiter, server: Server, seconds: float, clients: int = 100) -> float:
    """Let so many clients ask one after the other without a pause; requests per second that were done."""
    loop = asyncio.get_running_loop()
    end, before, began = loop.time() + seconds, server.done, loop.time()

    async def ask(number: int) -> None:
        kinds = itertools.islice(itertools.cycle(server.seconds), number, None)
        while loop.time() < end:
            try:
                async with limiter.slot(kind := next(kinds)):
                    await server.serve(kind)
            except RateLimitError:
                await asyncio.sleep(0.5)

    await asyncio.gather(*(ask(number) for number in range(clients)))
    return (server.done - before) / (loop.time() - began)


def used(limiter: AdaptiveLimiter, server: Server, seconds: float = 200, clients: int = 100) -> float:
    return run_in_virtual_time(use(limiter, server, seconds, clients))


def test_a_server_that_takes_all_gets_all_within_few_answers() -> None:
    limiter, server = AdaptiveLimiter(64, 4), Server()
    used(limiter, server, 10)
    # 4 + 8 + 16 + 32 in the first four seconds, and from then on 64 each.
    assert server.done >= 60 + 6 * 64
    assert (limiter.allowed, server.peak) == (64, 64)


@pytest.mark.parametrize("workers", [1, 4, 10, 40])
def test_a_server_with_so_many_workers_is_kept_busy_and_its_queue_short(workers: int) -> None:
    limiter, server = AdaptiveLimiter(128, 4), Server(workers=workers)
    used(limiter, server, 100)
    server.peak = 0
    assert used(limiter, server) >= 0.95 * workers
    assert server.peak <= max(8, 2 * workers)


@pytest.mark.parametrize("batching", [0.02, 0.05, 0.2])
def test_a_server_that_batches_does_not_take_twice_as_long(batching: float) -> None:
    limiter, server = AdaptiveLimiter(128, 8), Server(batching=batching)
    before = used(AdaptiveLimiter(8), Server(batching=batching))
    assert used(limiter, server) > before
    assert 1 + batching * (server.peak - 1) <= 2 * (1 + batching * 8)


@pytest.mark.parametrize("refuses", [2, 6, 20, 50])
def test_a_server_that_refuses_is_used_and_seldom_asked_in_vain(refuses: int) -> None:
    limiter, server = AdaptiveLimiter(128, 8), Server(refuses=refuses)
    assert used(limiter, server) >= 0.7 * refuses
    assert server.refused <= 0.35 * server.done
    assert limiter.allowed <= refuses + 1


@pytest.mark.parametrize("spread", [0.3, 0.7, 1.0])
def test_answers_of_all_lengths_are_no_sign_of_a_limit(spread: float) -> None:
    limiter = AdaptiveLimiter(128, 8)
    used(limiter, Server(spread=spread))
    assert limiter.allowed >= 100


@pytest.mark.parametrize("spread", [0.3, 0.7, 1.0])
def test_answers_of_all_lengths_do_not_hide_a_limit(spread: float) -> None:
    limiter, server = AdaptiveLimiter(128, 8), Server(spread=spread, workers=16)
    assert used(limiter, server) >= 0.75 * 16
    assert server.peak <= 3 * 16


def test_kinds_of_requests_are_compared_with_their_own() -> None:
    """What takes long by nature, and is asked later, does not count as slow."""
    limiter, server = AdaptiveLimiter(64, 8), Server({"short": 0.4})
    used(limiter, server, 5)
    server.seconds = {"long": 4.0, "short": 0.4}
    used(limiter, server, 60)
    assert limiter.allowed == 64


def test_a_server_that_becomes_slower_gets_fewer_and_then_more_again() -> None:
    limiter, server = AdaptiveLimiter(64, 4), Server()
    used(limiter, server, 30)
    assert limiter.allowed == 64
    server.workers = 8
    used(limiter, server, 200)
    assert limiter.allowed <= 16
    server.workers = math.inf
    used(limiter, server, 200)
    assert limiter.allowed == 64


def test_a_limit_that_is_not_reached_does_not_grow() -> None:
    limiter = AdaptiveLimiter(64, 8)
    used(limiter, Server(), clients=8)
    assert limiter.allowed == 8


def test_latency_does_not_lower_the_limit_of_the_beginning() -> None:
    limiter, server = AdaptiveLimiter(64, 4), Server(workers=1)
    lowest = []

    async def watch() -> None:
        using = asyncio.create_task(use(limiter, server, 200))
        while not using.done():
            lowest.append(limiter.allowed)
            await asyncio.sleep(0.5)

    run_in_virtual_time(watch())
    assert min(lowest) == 4


def test_nobody_is_put_into_a_queue_that_outlasts_patience() -> None:
    """A slow machine takes one after the other: with twice as many the last would be given up."""
    limiter, server = AdaptiveLimiter(64, 4, patience_s=300.0), Server({"": 60.0}, workers=1)
    used(limiter, server, 5000)
    assert server.peak == 4
    # With a long patience it may be tried.
    server = Server({"": 60.0}, workers=1)
    used(AdaptiveLimiter(64, 4, patience_s=3000.0), server, 5000)
    assert server.peak > 4


def test_requests_that_are_given_up_count_as_slow() -> None:
    limiter, server = AdaptiveLimiter(64, 4, patience_s=10.0), Server()
    used(limiter, server, 30)

    async def hang(_number: int) -> None:
        with suppress(ProviderTimeoutError):
            async with limiter.slot():
                await asyncio.sleep(10.0)
                raise ProviderTimeoutError("no answer")

    async def hang_all() -> None:
        await asyncio.gather(*(hang(number) for number in range(200)))

    run_in_virtual_time(hang_all())
    assert limiter.allowed <= 16


def test_one_request_that_hangs_lowers_nothing() -> None:
    limiter, server = AdaptiveLimiter(16, 8), Server()
    used(limiter, server, 10)
    assert limiter.allowed == 16

    async def with_one_that_hangs() -> None:
        async def hang() -> None:
            async with limiter.slot():
                await asyncio.sleep(170.0)

        await asyncio.gather(hang(), use(limiter, server, 200))

    run_in_virtual_time(with_one_that_hangs())
    assert limiter.allowed == 16


def test_a_small_maximum_is_a_fixed_limit() -> None:
    for most in (1, 3):
        limiter, server = AdaptiveLimiter(most, 8), Server()
        used(limiter, server, 20)
        assert (server.peak, limiter.allowed) == (most, most)
