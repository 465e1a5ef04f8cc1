"""What is deleted is gone, and nothing that somebody uses is."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from gems.errors import RunBusyError, RunNotFoundError
from gems.generation import ImageRequest
from gems.memory.images import ImageStore
from gems.memory.locks import run_lock
from gems.results import RunResult
from gems.runs import cleanup
from gems.service import Gems
from tests.support.scripted_models import flat_picture
from tests.support.scripted_service import FILES_ONLY, PATIENCE_S, House, Pause, held_elsewhere

OLD_S = 3 * 3600.0


@pytest.fixture
def house(tmp_path: Path, backend: str | None) -> House:
    house = House(tmp_path / "home")
    house.never_pass()
    return house


async def a_run(gems: Gems, prompt: str = "a red cat") -> RunResult:
    return await gems.run(prompt, seed=7, max_rounds=2)


def aged(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (time.time() - OLD_S,) * 2)


def stored(gems: Gems) -> set[str]:
    return {path.stem for path in gems.resources.images.folder.rglob("*.png")}


def images_of(*results: RunResult) -> set[str]:
    return {c["image"] for result in results for turn in result.rounds for c in turn["candidates"]}


async def rows(gems: Gems) -> dict[str, int]:
    """How many rows each table holds."""
    ledger, saver = gems.resources.ledger, gems.resources.checkpointer
    counts = {}
    if gems.settings.checkpoint is not None:
        tables = "SELECT table_name FROM information_schema.tables WHERE table_schema='public'"
        with psycopg.connect(gems.settings.checkpoint.get_secret_value()) as server:
            for (table,) in server.execute(tables).fetchall():
                if table not in ("gems_version", "checkpoint_migrations"):
                    (counts[table],) = server.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() or (0,)
        assert len(counts) == 10
        return counts
    for connection in (ledger._rows._connection, saver.conn):  # type: ignore[attr-defined]
        names = "SELECT name FROM sqlite_master WHERE type='table'"
        async with connection.execute(names) as cursor:
            tables = [row[0] for row in await cursor.fetchall()]
        for table in tables:
            async with connection.execute(f"SELECT count(*) FROM {table}") as cursor:
                counts[table] = (await cursor.fetchone())[0]
    return counts


async def test_deleted_run_is_gone_altogether(house: House) -> None:
    async with house.gems() as gems:
        run = await a_run(gems)
        looked = await gems.delete(run.run_id, dry_run=True)
        assert (looked.done, looked.images, looked.kept_images) == (False, 2, 0)
        assert stored(gems) == images_of(run)
        found = await gems.delete(run.run_id)
        assert found.model_dump(exclude={"done"}) == looked.model_dump(exclude={"done"})
        assert (found.done, found.prompt, found.path) == (True, "a red cat", run.path)
        assert found.image_bytes > 0
        assert set((await rows(gems)).values()) == {0}
        assert [path for path in house.home.rglob("*") if path.is_file() and "sqlite3" not in path.name] == []
        for gone in (gems.show, gems.delete):
            with pytest.raises(RunNotFoundError):
                await gone(run.run_id)


async def test_images_of_other_runs_stay(house: House) -> None:
    async with house.gems() as gems:
        first, same, other = await a_run(gems), await a_run(gems), await a_run(gems, "a dog")
        fork = await gems.fork(other.run_id, 1, "a blue dog")
        found = await gems.delete(first.run_id)
        assert (found.images, found.kept_images) == (0, 2)
        assert stored(gems) == images_of(same, other, fork)
        assert (await gems.delete(same.run_id)).images == 2
        assert (await gems.delete(other.run_id)).images == 1
        assert stored(gems) == images_of(fork)
        assert (await gems.show(fork.run_id)).rounds == fork.rounds


async def test_image_that_the_ledger_could_not_enter_stays(house: House) -> None:
    """Another run drew the same image, and only its checkpoints know."""
    async with house.gems() as gems:
        first, second = await a_run(gems), await a_run(gems)
        await gems.resources.ledger._write("DELETE FROM drawings WHERE run=?", (second.run_id,))
        assert (await gems.delete(first.run_id)).images == 0
        assert stored(gems) == images_of(second)
        await gems.resources.ledger._write("DELETE FROM drawings", ())
        aged(*gems.resources.images.folder.rglob("*.png"))
        assert (await gems.gc()).images == 0


async def test_pictures_written_elsewhere_stay(house: House, tmp_path: Path) -> None:
    async with house.gems() as gems:
        run = await gems.run("a red cat", seed=7, max_rounds=1, out=tmp_path / "mine.png")
        assert (await gems.delete(run.run_id)).path is None
    assert (tmp_path / "mine.png").exists()


async def test_run_that_is_worked_on_is_not_deleted(house: House) -> None:
    async with house.gems() as gems:
        pause = Pause()
        house.on_drawing(2, pause)
        running = asyncio.ensure_future(a_run(gems))
        await pause.wait()
        (row,) = await gems.runs()
        with pytest.raises(RunBusyError):
            await gems.delete(row["run_id"])
        await gems.cancel(row["run_id"])
        result = await asyncio.wait_for(running, PATIENCE_S)
        assert stored(gems) == images_of(result)
        with held_elsewhere(gems.settings.locks_path, result.run_id), pytest.raises(RunBusyError):
            await gems.delete(result.run_id)
        await gems.delete(result.run_id)


async def test_deleting_goes_on_where_a_killed_process_left_off(house: House) -> None:
    async with house.gems() as gems:
        run = await a_run(gems)
        await gems.resources.checkpointer.adelete_thread(run.run_id)
        await gems.resources.ledger._write("DELETE FROM answers", ())
        assert [row["run_id"] for row in await gems.runs()] == [run.run_id]
        assert (await gems.delete(run.run_id)).images == 2
        assert set((await rows(gems)).values()) == {0}


async def test_image_just_drawn_by_another_run_is_left_to_gc(house: House) -> None:
    """A run that goes on may have stored the same image without having entered it yet."""
    async with house.gems() as gems:
        run = await a_run(gems)
        pause = Pause()
        house.on_drawing(1, pause)
        other = asyncio.ensure_future(a_run(gems, "a dog"))
        await pause.wait()
        found = await gems.delete(run.run_id)
        assert (found.images, found.kept_images) == (0, 2)
        assert stored(gems) == images_of(run)
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
        aged(*gems.resources.images.folder.rglob("*.png"))
        assert (await gems.gc()).images == 2


async def litter(gems: Gems) -> list[Path]:
    """An image nobody refers to, half a file, and the lock of a run that is gone; all of them old."""
    image = await gems.resources.images.put(b"nobody's")
    half = gems.resources.images.path(image).with_name(".new-abc")
    half.write_bytes(b"half")
    lock = gems.settings.locks_path / "gone.lock"
    lock.touch()
    found = [gems.resources.images.path(image), half, lock]
    aged(*found)
    return found


@FILES_ONLY
async def test_garbage_is_told_first_and_freed_then(house: House) -> None:
    async with house.gems() as gems:
        run = await a_run(gems)
        aged(*gems.resources.images.folder.rglob("*.png"))
        paths = await litter(gems)
        for dry in (True, False):
            assert all(path.exists() for path in paths)
            found = await gems.gc(dry_run=dry)
            assert (found.images, found.image_bytes, found.leftovers, found.leftover_bytes) == (1, 8, 1, 4)
            assert (found.locks, found.done, found.nothing) == (1, not dry, False)
        assert not any(path.exists() for path in paths)
        assert stored(gems) == images_of(run)
        assert (await gems.show(run.run_id)).image.size == (64, 64)
        assert (await gems.gc()).nothing


async def test_what_is_young_is_left_alone(house: House) -> None:
    async with house.gems() as gems:
        await gems.resources.images.put(b"just stored")
        (gems.resources.images.folder / ".new-abc").write_bytes(b"half")
        assert (await gems.gc(min_age=timedelta(0))).nothing
        aged(*(path for path in gems.resources.images.folder.rglob("*") if path.is_file()))
        assert (await gems.gc(dry_run=True, min_age=timedelta(days=1))).nothing
        assert (await gems.gc()).images == 1


async def test_old_image_that_a_run_draws_again_is_left_alone(house: House) -> None:
    """The image lay there unused for long; a run has stored it again, and its ledger does not know yet."""
    async with house.gems() as gems:
        images = gems.resources.images
        request = ImageRequest(prompt="a red cat", seed=7, width=64, height=64)
        image = await images.put(flat_picture(request))
        aged(images.path(image))
        assert (await gems.gc(dry_run=True)).images == 1
        assert await images.put(flat_picture(request)) == image
        assert (await gems.gc()).images == 0
        assert await images.load(image) == flat_picture(request)


def test_image_that_is_put_while_it_is_removed_is_kept(tmp_path: Path) -> None:
    images = ImageStore(tmp_path)
    image = asyncio.run(images.put(b"wanted"))
    assert not cleanup.remove_image(images, image, before=time.time() - OLD_S)
    assert asyncio.run(images.load(image)) == b"wanted"
    assert cleanup.remove_image(images, image, before=time.time() + OLD_S)
    assert not cleanup.remove_image(images, image, before=time.time() + OLD_S)
    assert list(tmp_path.rglob("*.png")) == []


async def test_images_of_a_run_that_goes_on_are_left_alone(house: House) -> None:
    """Even where the clock says that they are old."""
    async with house.gems() as gems:
        pause = Pause()
        house.on_drawing(2, pause)
        running = asyncio.ensure_future(a_run(gems))
        await pause.wait()
        aged(*(path for path in house.home.rglob("*") if path.is_file()))
        async with house.gems() as other:
            assert (await other.gc()).nothing
        await gems.cancel((await gems.runs())[0]["run_id"])
        result = await asyncio.wait_for(running, PATIENCE_S)
        assert stored(gems) == images_of(result)


@FILES_ONLY
async def test_lock_of_a_run_that_just_begins_is_left_alone(house: House) -> None:
    async with house.gems() as gems:
        with run_lock(gems.settings.locks_path, "beginning"):
            assert (await gems.gc()).locks == 0
            assert (gems.settings.locks_path / "beginning.lock").exists()


async def test_an_image_that_was_attached_on_a_thread_stays_with_it(house: House) -> None:
    """Only the state of such a run refers to it."""
    house.edits()
    attached = flat_picture(ImageRequest(prompt="a photo", seed=1, width=32, height=16))
    url = f"data:image/png;base64,{base64.b64encode(attached).decode()}"
    content = [{"type": "text", "text": "make it red"}, {"type": "image_url", "image_url": {"url": url}}]
    given: Any = {"messages": [{"role": "user", "content": content}], "seed": 1, "max_rounds": 1}
    async with house.gems() as gems:
        context: Any = gems.resources.context()
        result = await gems._graph.ainvoke(given, {"configurable": {"thread_id": "studio"}}, context=context)
        await gems.resources.ledger._write("UPDATE answers SET at='2020'", ())
        await gems.resources.ledger._write("UPDATE drawings SET at='2020'", ())
        aged(*gems.resources.images.folder.rglob("*.png"))
        both = {result["options"]["source"], result["image"]}
        assert (await gems.gc()).images == 0
        assert stored(gems) == both
        assert (await gems.gc(unlisted=True)).images == 2


async def test_runs_that_are_not_listed_are_freed_on_request_only(house: House) -> None:
    """Studio's runs have rows and images, but no place in the list."""
    async with house.gems() as gems:
        listed = await a_run(gems)
        context: Any = gems.resources.context()
        await gems._graph.ainvoke(
            {"prompt": "a dog", "seed": 1, "max_rounds": 1}, {"configurable": {"thread_id": "studio"}}, context=context
        )
        await gems.resources.ledger._write("UPDATE answers SET at='2020'", ())
        await gems.resources.ledger._write("UPDATE drawings SET at='2020'", ())
        aged(*gems.resources.images.folder.rglob("*.png"))
        kept = await gems.gc()
        assert (kept.images, kept.unlisted_runs, kept.nothing) == (0, 1, True)
        assert kept.unlisted_rows >= 3
        looked = await gems.gc(dry_run=True, unlisted=True)
        freed = await gems.gc(unlisted=True)
        assert (looked.images, looked.unlisted_runs) == (freed.images, freed.unlisted_runs) == (1, 1)
        assert stored(gems) == images_of(listed)
        assert await gems.resources.ledger.unlisted() == {}
        assert (await gems.gc()).unlisted_runs == 0
