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
from gems.events import ImageDrawn, Stopped
from gems.memory import locks
from gems.results import RunResult, build_result
from gems.runs.recovery import RunEvidence, recover_state
from tests.support.scripted_models import checks
from tests.support.scripted_service import House, Pause, content, removed, told, unchanging

FULL = DiskFullError("The checkpoints could not be written.")


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A home whose judge likes the second of three rounds best."""
    house = House(tmp_path / "home")
    answers = [checks("no", "no"), checks("yes", "no"), checks("no", "no")]
    house.chat.script["checklist"] = answers
    return house


async def three_rounds(house: House) -> tuple[RunResult, Any, Any, dict[str, Any], list[Any]]:
    """A run: its result, its row, its events, its state and what the ledger says was drawn."""
    async with house.gems() as gems:
        events = await told(gems.stream("a red cat", seed=7, max_rounds=3))
        result = events[-1].result  # type: ignore[union-attr]
        (row,) = await gems.runs()
        state = dict((await gems._snapshot(result.run_id)).values)
        return result, row, events, state, await gems.resources.ledger.drawings(result.run_id)


@pytest.mark.parametrize("rounds", [0, 1, 2, 3])
@pytest.mark.parametrize("retold", [True, False])
async def test_rounds_are_rebuilt_behind_what_is_readable(house: House, rounds: int, retold: bool) -> None:
    result, row, events, state, drawings = await three_rounds(house)
    heard = [event for event in events if not isinstance(event, Stopped)]
    if not retold:
        # As when all of it is found in the ledger, where nothing is drawn.
        heard = [event for event in heard if not isinstance(event, ImageDrawn)]
    kept: dict[str, Any] = {}
    if rounds:
        kept = state | {name: state[name][:rounds] for name in ("rounds", "experiences")}
        kept["draw_prompt"] = state["rounds"][rounds - 1]["prompt"]
    rescued, unheard = recover_state(kept, row, RunEvidence(heard, drawings), FULL)
    found = unchanging(build_result(rescued, row, "done"))
    assert (rescued["stop_reason"], unheard) == ("failed", [])
    assert found.pop("failure")["error"] == "DiskFullError"
    assert found | {"failure": None, "stop_reason": "max_rounds"} == unchanging(result)
    assert (found["best_round"], found["image_id"]) == (2, result.image_id)


async def test_drawing_that_was_not_judged_comes_behind_the_judged_ones(house: House) -> None:
    result, row, events, _, drawings = await three_rounds(house)
    last = max(index for index, event in enumerate(events) if isinstance(event, ImageDrawn))
    rescued, _ = recover_state({}, row, RunEvidence(events[: last + 1], drawings), FULL)
    found = build_result(rescued, row, "failed")
    assert [turn["score"] for turn in found.rounds] == [0.0, 0.5, 0.0]
    assert found.rounds[2]["candidates"] == result.rounds[2]["candidates"]
    assert found.rounds[2]["prompt"] == result.rounds[2]["prompt"]
    assert {a["answer"] for a in found.rounds[2]["verdicts"][0]["answers"]} == {"unknown"}
    assert found.best_round == 2


async def test_round_that_was_judged_again_has_its_newest_verdicts(house: House) -> None:
    result, row, events, state, drawings = await three_rounds(house)
    rounds = state["rounds"]
    older = rounds[1] | {"verdicts": rounds[0]["verdicts"], "score": 0.0}
    kept = state | {"rounds": [rounds[0], older, rounds[2]]}
    rescued, _ = recover_state(kept, row, RunEvidence(events, drawings), FULL)
    assert rescued["rounds"] == rounds
    assert build_result(rescued, row, "done").best_round == result.best_round


async def test_run_without_an_image_cannot_be_rescued(house: House) -> None:
    _, row, events, _, _ = await three_rounds(house)
    first = next(index for index, event in enumerate(events) if isinstance(event, ImageDrawn))
    with pytest.raises(DiskFullError) as caught:
        recover_state({}, row, RunEvidence(events[:first], []), FULL)
    assert caught.value is FULL


async def test_what_broke_a_run_is_logged_without_secrets(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    _, row, events, state, drawings = await three_rounds(house)
    error = DiskFullError("full")
    error.__cause__ = LookupError("you sent Authorization: Bearer tops3cret-0123456789")
    recover_state(state, row, RunEvidence(events, drawings), error)
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


async def test_runs_of_this_process_need_no_lock_to_be_known(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
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
