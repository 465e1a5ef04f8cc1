"""What was paid for, and the index of runs."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gems.errors import StorageError
from gems.generation import ImageRequest
from gems.memory.ledger import Ledger, open_ledger
from gems.resources import open_stores
from gems.settings import load_settings
from gems.types import NO_USAGE
from tests.support.scripted_models import OPTIONS

REQUEST = ImageRequest(prompt="ein Kätzchen 猫", seed=7, width=64, height=64)
ANSWER: Any = {"text": "Ja, “yes” 👍", "thought": "hm", "yes_probability": 0.5, "usage": NO_USAGE}


def candidate(index: int = 0, image: str = "0" * 64) -> Any:
    return {"index": index, "image": image, "seed": 7, "parameters": {"steps": 4}, "seconds": 1.5}


@pytest_asyncio.fixture
async def ledger(tmp_path: Path, backend: str | None) -> AsyncIterator[Ledger]:
    async with open_stores(load_settings(home=tmp_path)) as stores:
        ledger = stores.ledger
        yield ledger


async def test_drawing_is_found_in_its_place_only(ledger: Ledger) -> None:
    await ledger.enter_drawing("run", 1, candidate(), "print", REQUEST)
    assert await ledger.drawing("run", 1, 0, "print") == candidate()
    for place in (("other", 1, 0), ("run", 2, 0), ("run", 1, 1)):
        assert await ledger.drawing(*place, "print") is None
    assert await ledger.drawing("run", 1, 0, "another print") is None


async def test_first_drawing_of_a_request_stays(ledger: Ledger) -> None:
    await ledger.enter_drawing("run", 1, candidate(), "print", REQUEST)
    await ledger.enter_drawing("run", 1, candidate(image="1" * 64), "print", REQUEST)
    assert await ledger.drawings("run") == [candidate()]


async def test_drawings_come_in_order(ledger: Ledger) -> None:
    for number, index in ((2, 0), (1, 1), (1, 0)):
        drawn = candidate(index, f"{number}{index}" * 32)
        await ledger.enter_drawing("run", number, drawn, "print", REQUEST)
    assert [item["image"][:2] for item in await ledger.drawings("run")] == ["10", "11", "20"]


async def test_answer_is_found_in_its_run_only(ledger: Ledger) -> None:
    await ledger.enter_answer("run", "key", "verify", ANSWER)
    await ledger.enter_answer("run", "key", "verify", ANSWER | {"text": "later"})
    assert await ledger.answer("run", "key") == ANSWER
    assert await ledger.answer("other", "key") is None
    assert await ledger.answer("run", "other") is None


async def test_run_goes_through_its_statuses(ledger: Ledger) -> None:
    begun = await ledger.begin("run", "ein Kätzchen", OPTIONS, {"judge": "blocks"})
    assert await ledger.run("run") == begun
    await ledger.mark("run", "done", {"score": 0.5})
    await ledger.mark("run", "interrupted")
    kept = await ledger.run("run")
    assert kept is not None
    assert (kept["status"], kept["summary"], kept["options"]) == ("interrupted", {"score": 0.5}, OPTIONS)
    assert kept["updated"] >= kept["created"]
    assert await ledger.run("other") is None


async def test_a_run_begins_once(ledger: Ledger) -> None:
    await ledger.begin("run", "a cat", OPTIONS, {})
    with pytest.raises(StorageError):
        await ledger.begin("run", "a dog", OPTIONS, {})


async def test_runs_are_listed_newest_first(ledger: Ledger) -> None:
    for name in ("20260101-a", "20260101-b", "20260101-c"):
        await ledger.begin(name, "a cat", OPTIONS, {})
    assert [row["run_id"][-1] for row in await ledger.runs()] == ["c", "b", "a"]
    assert [row["run_id"][-1] for row in await ledger.runs(2)] == ["c", "b"]


async def test_request_to_cancel_is_forgotten_when_the_run_goes_on(ledger: Ledger) -> None:
    await ledger.begin("run", "a cat", OPTIONS, {})
    assert not await ledger.cancel_requested("run")
    await ledger.request_cancel("run")
    assert await ledger.cancel_requested("run")
    assert not await ledger.cancel_requested("other")
    await ledger.mark("run", "running")
    assert not await ledger.cancel_requested("run")


async def test_everything_is_there_after_closing(tmp_path: Path, backend: str | None) -> None:
    settings = load_settings(home=tmp_path)
    async with open_stores(settings) as first:
        await first.ledger.enter_drawing("run", 1, candidate(), "print", REQUEST)
        await first.ledger.enter_answer("run", "key", "verify", ANSWER)
    async with open_stores(settings) as second:
        assert await second.ledger.drawings("run") == [candidate()]
        assert await second.ledger.answer("run", "key") == ANSWER


async def test_two_ledgers_write_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    async with open_ledger(path) as first, open_ledger(path) as second:
        await asyncio.gather(
            *(
                ledger.enter_answer("run", f"{name}{n}", "verify", ANSWER)
                for name, ledger in (("a", first), ("b", second))
                for n in range(50)
            )
        )
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT count(*) FROM answers").fetchone() == (100,)
    raw.close()


@pytest.mark.parametrize("hostile", ["'); DROP TABLE runs; --", "a\0b \ue000 \ue0000", "50% ? %s"])
async def test_hostile_text_is_data(ledger: Ledger, hostile: str) -> None:
    await ledger.begin(hostile, hostile, OPTIONS, {})
    assert (await ledger.runs())[0]["prompt"] == hostile


async def test_faults_of_the_file_are_storage_errors(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    async with open_ledger(path) as ledger:
        raw = sqlite3.connect(path)
        raw.execute("DROP TABLE answers")
        raw.close()
        with pytest.raises(StorageError, match=r"ledger\.sqlite3"):
            await ledger.answer("run", "key")
        with pytest.raises(StorageError):
            await ledger.enter_answer("run", "key", "verify", ANSWER)
