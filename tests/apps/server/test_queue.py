"""The queue of requests that wait for a free place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from gems.apps.server import queue as queue_module
from gems.apps.server.queue import NoPlaceError, QueuePlace, RunQueue, TooManyRunsError
from tests.support.scripted_service import PATIENCE_S


class Places:
    """Free places of each key and of all together."""

    def __init__(self, queue: RunQueue, free: int = 0, **of_key: int) -> None:
        self.queue, self.free, self.of_key = queue, free, of_key
        self.started: list[str] = []

    def attempt(self, owner: str, name: str) -> Callable[[], Awaitable[None]]:
        async def attempt() -> None:
            if self.of_key.get(owner, 1) < 1:
                raise NoPlaceError("The key has no place.")
            if self.free < 1:
                error = NoPlaceError("Nobody has a place.")
                error.for_key = False
                raise error
            self.free -= 1
            self.started.append(name)

        return attempt

    def start(self, owner: str, name: str, told: list[QueuePlace] | None = None) -> asyncio.Task[None]:
        until = time.monotonic() + PATIENCE_S
        tell = None if told is None else told.append
        return asyncio.ensure_future(self.queue.start(owner, self.attempt(owner, name), until, tell))

    async def release(self, number: int = 1) -> None:
        before = len(self.started)
        self.free += number
        self.queue.notify()
        async with asyncio.timeout(PATIENCE_S):
            while len(self.started) < before + number:  # noqa: ASYNC110 - what is tested is not changed for it
                await asyncio.sleep(0)


async def settle(places: Places, waiting: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while sum(places.queue.lengths().values()) != waiting:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)


async def test_a_free_place_is_taken_at_once() -> None:
    places, told = Places(RunQueue(1), free=1), list[QueuePlace]()
    await places.start("ann", "a", told)
    assert (places.started, told, places.queue.lengths()) == (["a"], [], {})


async def test_requests_of_a_key_start_in_order_and_are_told_their_places() -> None:
    places = Places(RunQueue(5))
    told: dict[str, list[QueuePlace]] = {name: [] for name in "abc"}
    tasks = []
    for number, name in enumerate("abc", 1):
        tasks.append(places.start("ann", name, told[name]))
        await settle(places, number)
    assert str(told["c"][-1]) == "3 of 3"
    await places.release()
    await settle(places, 2)
    assert str(told["c"][-1]) == "2 of 2"
    await places.release(2)
    await asyncio.gather(*tasks)
    assert places.started == ["a", "b", "c"]
    assert told["a"][0] == QueuePlace(1, 1)


async def test_keys_take_turns_however_much_one_asks_for() -> None:
    places = Places(RunQueue(20))
    tasks = [places.start("ann", f"ann {number}") for number in range(6)]
    await settle(places, 6)
    tasks += [places.start("bob", f"bob {number}") for number in range(2)]
    tasks += [places.start("cas", "cas 0")]
    await settle(places, 9)
    for _ in range(9):
        await places.release()
    await asyncio.gather(*tasks)
    assert sorted(places.started[:3]) == ["ann 0", "bob 0", "cas 0"]
    assert sorted(places.started[3:5]) == ["ann 1", "bob 1"]
    assert places.started[5:] == [f"ann {number}" for number in range(2, 6)]


async def test_a_key_at_its_own_limit_lets_others_go_before() -> None:
    places = Places(RunQueue(5), ann=0)
    first = places.start("ann", "a")
    await settle(places, 1)
    second = places.start("bob", "b")
    await settle(places, 2)
    await places.release()
    await second
    assert places.started == ["b"]
    places.of_key["ann"] = 1
    await places.release()
    await first


async def test_more_than_may_wait_are_refused() -> None:
    places = Places(RunQueue(1))
    first = places.start("ann", "a")
    await settle(places, 1)
    with pytest.raises(TooManyRunsError, match="waiting already"):
        await places.start("ann", "b")
    other = places.start("bob", "c")
    await settle(places, 2)
    await places.release(2)
    await asyncio.gather(first, other)


async def test_where_nobody_may_wait_the_limit_is_told() -> None:
    with pytest.raises(TooManyRunsError, match="Nobody has a place") as caught:
        await Places(RunQueue(0)).start("ann", "a")
    assert not isinstance(caught.value, NoPlaceError)


async def test_whoever_waits_until_the_time_is_up_is_refused() -> None:
    places = Places(RunQueue(5))
    with pytest.raises(TooManyRunsError, match="Nobody has a place"):
        await places.queue.start("ann", places.attempt("ann", "a"), time.monotonic() - 1)
    assert places.queue.lengths() == {}


async def test_whoever_leaves_makes_room() -> None:
    places, told = Places(RunQueue(5)), list[QueuePlace]()
    first = places.start("ann", "a")
    await settle(places, 1)
    second = places.start("ann", "b", told)
    await settle(places, 2)
    first.cancel()
    await settle(places, 1)
    assert told[-1] == QueuePlace(1, 1)
    await places.release()
    await second
    assert places.started == ["b"]


async def test_places_of_other_servers_are_found_without_a_notice() -> None:
    places = Places(RunQueue(5))
    task = places.start("ann", "a")
    await settle(places, 1)
    places.free = 1
    await asyncio.wait_for(task, PATIENCE_S)


async def test_what_fails_otherwise_is_raised() -> None:
    async def fail() -> None:
        raise ValueError("broken")

    queue = RunQueue(5)
    with pytest.raises(ValueError, match="broken"):
        await queue.start("ann", fail, time.monotonic() + PATIENCE_S)
    assert queue.lengths() == {}


async def test_keys_that_come_and_go_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "_REMEMBERED", 3)
    queue = RunQueue(5)
    places = Places(queue, 10)
    for number in range(10):
        await places.start(f"key {number % 7}", str(number))
    assert places.started == [str(number) for number in range(10)]
    assert list(queue._last_start.values()) == [8, 9, 10]
