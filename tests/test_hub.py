"""Runs that live in the service and not in a connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import pytest_asyncio

from gems.apps.run_manager import RunHub
from gems.errors import PromptError, RunDrainedError, RunNotFoundError
from gems.events import Event, Finished
from gems.memory.run_filter import RunFilter
from tests.serving import House, Pause


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "home")


@pytest_asyncio.fixture
async def hub(house: House) -> AsyncIterator[RunHub]:
    async with house.gems() as gems:
        hub = RunHub(gems)
        yield hub
        await hub.drain(0)


async def watched(hub: RunHub, run_id: str, after: int = 0) -> list[Event]:
    async with aclosing(hub.watch(run_id, after)) as events:
        return [event async for event in events]


async def test_everybody_hears_everything_however_late(hub: RunHub) -> None:
    run_id = await hub.start("a red cat", seed=7)
    first, second = await asyncio.gather(watched(hub, run_id), watched(hub, run_id))
    late = await watched(hub, run_id)
    assert first == second == late
    assert [event.type for event in first][:2] == ["started", "requirements"] or first[0].type == "started"
    assert first[-1].type == "finished"
    assert (await hub.result(run_id)).passed
    assert await watched(hub, run_id, after=len(first) - 1) == first[-1:]


async def test_a_watcher_that_leaves_stops_nothing(hub: RunHub, house: House) -> None:
    house.never_pass()
    run_id = await hub.start("a red cat", seed=7, max_rounds=3)
    async with aclosing(hub.watch(run_id)) as events:
        assert (await anext(events)).type == "started"
    assert len((await hub.result(run_id)).rounds) == 3


async def test_what_is_wrong_with_a_request_is_told_at_once(hub: RunHub) -> None:
    with pytest.raises(PromptError):
        await hub.start("")
    assert hub.working() == []
    with pytest.raises(RunNotFoundError):
        await watched(hub, "unknown")


async def test_a_run_of_another_process_tells_its_result(hub: RunHub, house: House) -> None:
    async with house.gems() as other:
        result = await other.run("a red cat", seed=7)
    (only,) = await watched(hub, result.run_id)
    assert isinstance(only, Finished)
    assert only.result.run_id == result.run_id


async def test_cancel_hands_back_the_best_so_far(hub: RunHub, house: House) -> None:
    house.never_pass()
    pause = Pause()
    house.on_drawing(2, pause)
    run_id = await hub.start("a red cat", seed=7)
    await pause.wait()
    assert hub.working() == [run_id]
    await hub.cancel(run_id)
    result = await hub.result(run_id)
    assert (result.stop_reason, len(result.rounds)) == ("cancelled", 1)


async def test_drained_runs_go_on_with_the_next_process(house: House) -> None:
    house.never_pass()
    async with house.gems() as gems:
        hub = RunHub(gems)

        async def stopping() -> None:
            gems.drain()

        house.on_drawing(2, stopping)
        run_id = await hub.start("a red cat", seed=7, max_rounds=4)
        with pytest.raises(RunDrainedError):
            await hub.result(run_id)
        await hub.drain()
        with pytest.raises(RunDrainedError):
            await hub.start("another")
        assert [row["status"] for row in await gems.runs()] == ["interrupted"]
    house.on_drawing(1, None)
    drawn = house.drawn()
    async with house.gems() as gems:
        later = RunHub(gems)
        assert await later.resume_drained() == [run_id]
        result = await later.result(run_id)
        assert await later.resume_drained() == []
    assert (result.stop_reason, len(result.rounds)) == ("max_rounds", 4)
    assert len(house.drawn()) == len(set(house.drawn())) == 4
    assert house.drawn()[: len(drawn)] == drawn


async def test_what_does_not_stop_in_time_is_interrupted(house: House) -> None:
    pause = Pause()
    house.on_drawing(1, pause)
    async with house.gems() as gems:
        hub = RunHub(gems)
        run_id = await hub.start("a red cat", seed=7)
        await pause.wait()
        await hub.drain(0.01)
        with pytest.raises(RunDrainedError):
            await hub.result(run_id)
        assert [row["status"] for row in await gems.runs()] == ["interrupted"]


async def test_runs_belong_to_their_owners(hub: RunHub) -> None:
    ids = {}
    for owner in ("ann", "bob", ""):
        ids[owner] = await hub.start("a red cat", seed=7, owner=owner)
        await hub.result(ids[owner])
    fork = await hub.fork(ids["ann"], 1, "a blue cat")
    await hub.result(fork)
    rows = {owner: await hub.gems.runs(wanted=RunFilter(owner=owner)) for owner in ids}
    assert {row["run_id"] for row in rows["ann"]} == {ids["ann"], fork}
    assert [[row["run_id"] for row in rows[owner]] for owner in ("bob", "")] == [[ids["bob"]], [ids[""]]]
    assert len(await hub.gems.runs()) == 4
