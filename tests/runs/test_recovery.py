"""What is left of a run whose checkpoints, or whose images, are damaged."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gems.errors import CorruptStoreError, DiskFullError, ImageMissingError
from gems.memory import locks
from gems.results import RunResult, build_result
from gems.runs.recovery import recover_state
from tests.support.scripted_models import checks
from tests.support.scripted_service import House, Pause, content, removed, unchanging

FULL = DiskFullError("The checkpoints could not be written.")


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A home whose judge likes the second of three rounds best."""
    house = House(tmp_path / "home")
    answers = [checks("no", "no"), checks("yes", "no"), checks("no", "no")]
    house.chat.script["checklist"] = answers
    return house


async def three_rounds(house: House) -> tuple[RunResult, Any, dict[str, Any], list[Any]]:
    """A run: its result, its row, its state and what the ledger says was drawn."""
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7, max_rounds=3)
        (row,) = await gems.runs()
        state = dict((await gems._snapshot(result.run_id)).values)
        return result, row, state, await gems.resources.ledger.drawings(result.run_id)


@pytest.mark.parametrize("rounds", [0, 1, 2, 3])
async def test_readable_rounds_stay_and_other_images_follow_unjudged(house: House, rounds: int) -> None:
    result, row, state, drawings = await three_rounds(house)
    kept: dict[str, Any] = {}
    if rounds:
        kept = state | {name: state[name][:rounds] for name in ("rounds", "experiences")}
        kept |= {"stop_reason": None}
    recovered, warnings = recover_state(kept, row, drawings, FULL)
    found = build_result(recovered, row, "failed")
    assert (found.stop_reason, warnings) == ("failed", [])
    assert found.failure is not None
    assert found.failure["error"] == "DiskFullError"
    assert found.rounds[:rounds] == result.rounds[:rounds]
    images = [candidate["image"] for turn in found.rounds for candidate in turn["candidates"]]
    assert images == [candidate["image"] for candidate in drawings]
    answers = [a for turn in found.rounds[rounds:] for v in turn["verdicts"] for a in v["answers"]]
    assert {answer["answer"] for answer in answers} == ({"unknown"} if rounds < 3 else set())
    if rounds >= 2:
        assert (found.best_round, found.image_id) == (2, result.image_id)


async def test_complete_run_keeps_its_stop_reason(house: House) -> None:
    result, row, state, drawings = await three_rounds(house)
    recovered, warnings = recover_state(state, row, drawings, FULL)
    found = build_result(recovered, row, "done")
    assert len(warnings) == 1
    assert "could not be stored" in warnings[0]
    assert found.warnings == [*result.warnings, *warnings]
    assert unchanging(found) | {"warnings": []} == unchanging(result) | {"warnings": []}


async def test_run_without_an_image_cannot_be_recovered(house: House) -> None:
    _, row, state, _ = await three_rounds(house)
    for kept in ({}, state | {"rounds": [], "drawn": []}):
        with pytest.raises(DiskFullError) as caught:
            recover_state(kept, row, [], FULL)
        assert caught.value is FULL


async def test_what_broke_a_run_is_logged_without_secrets(house: House, caplog: pytest.LogCaptureFixture) -> None:
    _, row, state, drawings = await three_rounds(house)
    error = DiskFullError("full")
    error.__cause__ = LookupError("you sent Authorization: Bearer tops3cret-0123456789")
    recover_state(state, row, drawings, error)
    assert "you sent" in caplog.text
    assert "tops3cret" not in caplog.text


def overwritten(path: Path) -> None:
    """Pages of a database that something else wrote over."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    data = path.read_bytes()
    path.write_bytes(data[:8192] + b"Z" * (len(data) - 8192))


def undecodable(path: Path) -> None:
    """Checkpoints that no decoder makes sense of."""
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE checkpoints SET checkpoint=x'ff00ff'")
    connection.close()


@pytest.mark.parametrize("damage", [overwritten, undecodable])
async def test_damaged_checkpoints_are_named_and_the_image_is_shown(
    house: House, damage: Callable[[Path], None]
) -> None:
    result, *_ = await three_rounds(house)
    damage(house.home / "checkpoints.sqlite3")
    async with house.gems() as gems:
        with pytest.raises(CorruptStoreError, match=r"checkpoints\.sqlite3") as caught:
            await gems.resume(result.run_id)
        shown = await gems.show(result.run_id)
    assert "Move it away" in caught.value.hint
    assert (shown.image_id, shown.stop_reason, shown.path) == (result.image_id, "max_rounds", result.path)
    assert shown.image.tobytes() == result.image.tobytes()
    assert {item.answer for item in shown.requirements} == {"unknown"}
    (warning,) = shown.warnings
    assert "images of this run are known (3) and still stored" in warning
    assert "Move it away" in warning


async def test_run_without_images_cannot_be_shown_from_damaged_checkpoints(house: House) -> None:
    house.chat.script["decompose"] = ImageMissingError("stop here")
    async with house.gems() as gems:
        with pytest.raises(ImageMissingError) as caught:
            await gems.run("a red cat", seed=7)
    undecodable(house.home / "checkpoints.sqlite3")
    async with house.gems() as gems:
        with pytest.raises(CorruptStoreError):
            await gems.show(caught.value.run_id)


async def test_copy_stands_in_for_a_stored_image_that_is_gone(house: House) -> None:
    result, *_ = await three_rounds(house)
    shutil.rmtree(house.home / "images")
    async with house.gems() as gems:
        shown = await gems.show(result.run_id)
        assert shown.path == result.path
        assert shown._repr_png_() == content(result.path)
        assert str(result.path) in shown.warnings[-1]
        removed(result.path)
        with pytest.raises(ImageMissingError):
            await gems.show(result.run_id)


async def test_runs_of_this_process_need_no_lock_to_be_known(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    pause = Pause()
    house.on_drawing(1, pause)
    async with house.gems() as gems:
        run = asyncio.ensure_future(gems.run("a red cat", seed=7))
        await pause.wait()
        with monkeypatch.context() as patch:
            patch.setattr(locks, "is_run_locked", lambda *_: pytest.fail("The lock was asked for."))
            assert [row["status"] for row in await gems.runs()] == ["running"]
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


async def test_locks_are_looked_at_on_another_thread(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def locked(*_: Any) -> bool:
        threads.append(threading.get_ident())
        return True

    monkeypatch.setattr(locks, "is_run_locked", locked)
    result, *_ = await three_rounds(house)
    async with house.gems() as gems:
        await gems.resources.ledger.mark(result.run_id, "running")
        assert [row["status"] for row in await gems.runs()] == ["running"]
        assert (await gems.show(result.run_id)).status == "running"
        await gems.cancel(result.run_id)
    assert len(threads) == 3
    assert threading.get_ident() not in threads
