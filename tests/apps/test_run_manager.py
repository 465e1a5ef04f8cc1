"""Runs that live in the service and not in a connection."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from types import FunctionType, MethodType, ModuleType

import pytest
import pytest_asyncio

from gems.apps.run_manager import RunManager
from gems.errors import PromptError, RunDrainedError, RunNotFoundError
from gems.events import Event, Finished
from gems.memory.run_filter import RunFilter
from gems.results import release_image
from tests.support.scripted_service import PATIENCE_S, House, Pause


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "home")


@pytest_asyncio.fixture
async def manager(house: House) -> AsyncIterator[RunManager]:
    async with house.gems() as gems:
        manager = RunManager(gems)
        yield manager
        await manager.drain(0)


async def watched(manager: RunManager, run_id: str, after: int = 0) -> list[Event]:
    async with aclosing(manager.watch(run_id, after)) as events:
        return [event async for event in events]


async def test_everybody_hears_everything_however_late(manager: RunManager) -> None:
    run_id = await manager.start("a red cat", seed=7)
    first, second = await asyncio.gather(watched(manager, run_id), watched(manager, run_id))
    late = await watched(manager, run_id)
    assert first == second == late
    assert [event.type for event in first][:2] == ["started", "requirements"] or first[0].type == "started"
    assert first[-1].type == "finished"
    assert (await manager.result(run_id)).passed
    assert await watched(manager, run_id, after=len(first) - 1) == first[-1:]


def bytes_in(value: object) -> int:
    """The bytes of all large texts of bytes that are reachable from a value, apart from what stores hold."""
    waiting, seen, found = [value], {0}, 0
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, type | ModuleType | FunctionType | MethodType):
            continue
        seen.add(id(item))
        found += len(item) if isinstance(item, bytes) and len(item) > 500 else 0
        waiting += gc.get_referents(item)
    return found


async def test_images_of_finished_runs_take_up_no_memory(manager: RunManager, house: House) -> None:
    ended: list[Event | BaseException] = []
    manager.listeners.append(ended.append)
    run_ids = [await manager.start("a red cat", seed=seed, size="512x512") for seed in range(3)]
    events = [await watched(manager, run_id) for run_id in run_ids]
    finished = [event for event in ended if isinstance(event, Finished)]
    pngs = {event.run_id: event.result._repr_png_() or b"" for event in finished}
    assert bytes_in(finished) >= sum(map(len, pngs.values())) > 3 * 500, "as they come from the run"
    assert bytes_in(events) == 0
    for run_id in run_ids:
        result = await manager.result(run_id)
        assert result.path is not None
        saved = Path(result.path)
        assert result._repr_png_() == pngs[run_id] == await asyncio.to_thread(saved.read_bytes)
        assert result.image.size == (512, 512)
        # Somebody writes another image there, or deletes it.
        stored = await manager.gems.resources.images.load(result.image_id or "")
        await asyncio.to_thread(saved.write_bytes, b"another")
        assert result._repr_png_() == stored
        await asyncio.to_thread(saved.unlink)
        assert result._repr_png_() == stored
        assert release_image(result) is result


async def test_an_image_without_a_file_stays_in_memory(manager: RunManager) -> None:
    run_id = await manager.start("a red cat", seed=7)
    result = (await manager.result(run_id)).with_image(b"png", None)
    assert release_image(result)._repr_png_() == b"png"


async def test_a_watcher_that_leaves_stops_nothing(manager: RunManager, house: House) -> None:
    house.never_pass()
    run_id = await manager.start("a red cat", seed=7, max_rounds=3)
    async with aclosing(manager.watch(run_id)) as events:
        assert (await anext(events)).type == "started"
    assert len((await manager.result(run_id)).rounds) == 3


async def test_a_run_of_another_server_is_not_finished_while_it_runs(manager: RunManager, house: House) -> None:
    house.never_pass()
    waiting, go = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        waiting.set()
        await go.wait()

    house.on_drawing(2, wait)
    async with house.gems() as gems:
        other = RunManager(gems)
        run_id = await other.start("a red cat", seed=7, max_rounds=2)
        watching = asyncio.create_task(watched(manager, run_id))
        await waiting.wait()
        # Long enough for several looks.
        _, pending = await asyncio.wait([watching], timeout=1.5)
        assert pending
        go.set()
        result = await other.result(run_id)
        (finished,) = await watching
        assert isinstance(finished, Finished)
        assert finished.result.status == "done"
        assert finished.result.rounds == result.rounds
        await other.drain(0)


async def test_a_run_of_a_killed_server_is_shown_as_far_as_it_came(manager: RunManager, house: House) -> None:
    async with house.gems() as gems:
        run_id = await gems.resources.ledger.begin("killed", "a red cat", (await gems.run("x")).options, {})
    (finished,) = await asyncio.wait_for(watched(manager, run_id["run_id"]), PATIENCE_S)
    assert isinstance(finished, Finished)
    assert finished.result.status == "interrupted"


async def test_what_is_wrong_with_a_request_is_told_at_once(manager: RunManager) -> None:
    with pytest.raises(PromptError):
        await manager.start("")
    assert manager.working() == []
    with pytest.raises(RunNotFoundError):
        await watched(manager, "unknown")


async def test_a_run_of_another_process_tells_its_result(manager: RunManager, house: House) -> None:
    async with house.gems() as other:
        result = await other.run("a red cat", seed=7)
    (only,) = await watched(manager, result.run_id)
    assert isinstance(only, Finished)
    assert only.result.run_id == result.run_id


async def test_cancel_hands_back_the_best_so_far(manager: RunManager, house: House) -> None:
    house.never_pass()
    pause = Pause()
    house.on_drawing(2, pause)
    run_id = await manager.start("a red cat", seed=7)
    await pause.wait()
    assert manager.working() == [run_id]
    await manager.cancel(run_id)
    result = await manager.result(run_id)
    assert (result.stop_reason, len(result.rounds)) == ("cancelled", 1)


async def test_drained_runs_go_on_with_the_next_process(house: House) -> None:
    house.never_pass()
    async with house.gems() as gems:
        manager = RunManager(gems)

        async def stopping() -> None:
            gems.drain()

        house.on_drawing(2, stopping)
        run_id = await manager.start("a red cat", seed=7, max_rounds=4)
        with pytest.raises(RunDrainedError):
            await manager.result(run_id)
        await manager.drain()
        with pytest.raises(RunDrainedError):
            await manager.start("another")
        assert [row["status"] for row in await gems.runs()] == ["interrupted"]
    house.on_drawing(1, None)
    drawn = house.drawn()
    async with house.gems() as gems:
        later = RunManager(gems)
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
        manager = RunManager(gems)
        run_id = await manager.start("a red cat", seed=7)
        await pause.wait()
        await manager.drain(0.01)
        with pytest.raises(RunDrainedError):
            await manager.result(run_id)
        assert [row["status"] for row in await gems.runs()] == ["interrupted"]


async def test_runs_belong_to_their_owners(manager: RunManager) -> None:
    ids = {}
    for owner in ("ann", "bob", ""):
        ids[owner] = await manager.start("a red cat", seed=7, owner=owner)
        await manager.result(ids[owner])
    fork = await manager.fork(ids["ann"], 1, "a blue cat")
    await manager.result(fork)
    rows = {owner: await manager.gems.runs(wanted=RunFilter(owner=owner)) for owner in ids}
    assert {row["run_id"] for row in rows["ann"]} == {ids["ann"], fork}
    assert [[row["run_id"] for row in rows[owner]] for owner in ("bob", "")] == [[ids["bob"]], [ids[""]]]
    assert len(await manager.gems.runs()) == 4
