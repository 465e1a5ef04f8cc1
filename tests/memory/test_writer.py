"""What is to be written is kept until it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from langgraph.store.memory import InMemoryStore

from gems.errors import MemoryUnavailableError
from gems.memory.experience import PendingOp
from gems.memory.writer import BATCH, ExperienceWriter, Outbox, apply, open_outbox

SPACE = ("experiences", "flat")


class Flaky(InMemoryStore):
    """A store that can be down."""

    down = False
    batches = 0

    async def abatch(self, ops: Any) -> Any:
        if self.down:
            raise MemoryUnavailableError("It is down.")
        self.batches += 1
        return await super().abatch(ops)


@pytest_asyncio.fixture
async def outbox(tmp_path: Path) -> AsyncIterator[Outbox]:
    async with open_outbox(tmp_path / "outbox.sqlite3") as outbox:
        yield outbox


def put(key: str, **value: Any) -> PendingOp:
    return {"id": f"put/{key}", "kind": "put", "namespace": list(SPACE), "key": key, "value": value}


def credit(key: str, number: int, **value: int) -> PendingOp:
    name = f"credit/{key}/{number}"
    return {"id": name, "kind": "credit", "namespace": list(SPACE), "key": key, "value": value}


def record(store: InMemoryStore, key: str) -> Any:
    item = store.get(SPACE, key)
    assert item is not None
    return item.value["record"]


async def test_everything_is_written_in_batches(outbox: Outbox) -> None:
    store = Flaky()
    writer = ExperienceWriter(store, outbox)
    for number in range(2 * BATCH):
        await writer.submit(put(str(number), n=number))
    assert await writer.flush(10) is None
    assert store.batches <= 4
    assert await outbox.count() == 0
    assert len(store.search(SPACE, limit=1000)) == 2 * BATCH
    await writer.aclose()


async def test_what_a_store_does_not_take_waits_for_the_next_time(outbox: Outbox, tmp_path: Path) -> None:
    store = Flaky()
    store.down = True
    writer = ExperienceWriter(store, outbox)
    await writer.submit(put("a", text="kept"))
    assert isinstance(await writer.flush(10), MemoryUnavailableError)
    await writer.aclose()
    store.down = False
    async with open_outbox(tmp_path / "outbox.sqlite3") as again:
        assert await ExperienceWriter(store, again).flush(10) is None
    item = store.get(SPACE, "a")
    assert item is not None
    assert item.value == {"text": "kept"}


async def test_credits_add_up_and_count_once(outbox: Outbox) -> None:
    store = InMemoryStore()
    writer = ExperienceWriter(store, outbox)
    await writer.submit(put("a", text="t", record={"shown": 0, "helped": 0, "hurt": 0}))
    await writer.submit(credit("a", 1, shown=1, helped=1, hurt=0))
    await writer.submit(credit("a", 2, shown=1, helped=0, hurt=1))
    await writer.submit(credit("gone", 1, shown=1, helped=1, hurt=0))
    assert await writer.flush(10) is None
    assert record(store, "a") == {"shown": 2, "helped": 1, "hurt": 1}
    # A resumed run hands the same on again.
    await writer.submit(credit("a", 1, shown=1, helped=1, hurt=0))
    await writer.submit(put("a", text="t", record={"shown": 0, "helped": 0, "hurt": 0}))
    assert await writer.flush(10) is None
    assert record(store, "a") == {"shown": 2, "helped": 1, "hurt": 1}
    assert store.get(SPACE, "gone") is None
    await writer.aclose()


async def test_a_newer_put_is_not_struck_out_with_an_older_one(outbox: Outbox) -> None:
    await outbox.add(put("a", n=1))
    pending = await outbox.pending(10)
    await outbox.add(put("a", n=2))
    await outbox.done(pending)
    assert [op["value"] for op in await outbox.pending(10)] == [{"n": 2}]


async def test_pending_operations_are_forgotten(outbox: Outbox) -> None:
    await outbox.add(put("a", n=1))
    await outbox.add(put("b", n=1))
    assert await outbox.forget([(list(SPACE), "a")]) == 1
    assert [op["key"] for op in await outbox.pending(10)] == ["b"]


async def test_a_slow_store_is_not_waited_for(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    class Slow(InMemoryStore):
        async def abatch(self, ops: Any) -> Any:
            await asyncio.Event().wait()

    writer = ExperienceWriter(Slow(), outbox)
    await outbox.add(put("a", n=1))
    fault = await writer.flush(0.05)
    assert isinstance(fault, MemoryUnavailableError)
    assert await outbox.count() == 1


async def test_operations_without_a_writer() -> None:
    store = InMemoryStore()
    await apply(store, [put("a", text="t"), credit("a", 1, shown=1, helped=1, hurt=0)])
    assert record(store, "a") == {"shown": 1, "helped": 1, "hurt": 0}


def _aside(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.glob("outbox.sqlite3.damaged-*")]


def _broken(data: bytes, how: str) -> bytes:
    middle = len(data) // 2
    return {
        "first byte": b"\xff" + data[1:],
        "middle": data[:1024] + b"\xff" * (len(data) - 2048) + data[-1024:],
        "half": data[:middle],
        "text": b"not a database" * 100,
    }[how]


@pytest.mark.parametrize("how", ["first byte", "middle", "half", "text"])
async def test_a_damaged_file_is_set_aside_and_told(tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "outbox.sqlite3"
    async with open_outbox(path) as outbox:
        for number in range(200):
            await outbox.add(put(str(number), text="x" * 100))
    before = _broken(path.read_bytes(), how)
    path.write_bytes(before)
    async with open_outbox(path) as outbox:
        assert "damaged" in outbox.note
        assert "gems memory rebuild" in outbox.note
        assert outbox.note in caplog.text
        assert await outbox.count() == 0
        await outbox.add(put("new"))
        assert [op["key"] for op in await outbox.pending(10)] == ["new"]
    assert _aside(tmp_path) == [before]
    async with open_outbox(path) as outbox:
        assert not outbox.note
        assert await outbox.count() == 1


async def test_an_unreadable_operation_does_not_hold_up_the_others(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    for text in ("", "[]", "{", '{"id": 1}'):
        await outbox.write("INSERT INTO operations (id, at, operation) VALUES (?,?,?)", (f"bad/{text}", "2026", text))
    await outbox.add(put("good"))
    store = Flaky()
    assert await ExperienceWriter(store, outbox).flush(10) is None
    assert store.get(SPACE, "good") is not None
    assert "4 experiences" in caplog.text
    ((kept,),) = await outbox.all("SELECT count(*) FROM operations WHERE done=2")
    assert kept == 4
