"""Errors of SQLite and of the file system, and damaged database files."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gems.errors import CorruptStoreError, DiskFullError, StorageError, StoreVersionError
from gems.memory.checkpointer import CHECKPOINT_VERSION, checkpoint_serializer, open_checkpointer
from gems.memory.ledger import LEDGER_VERSION, open_ledger
from gems.memory.sqlite import SqliteRows, open_database, reading, storage_error

Opening = Callable[[Path], AbstractAsyncContextManager[Any]]
PATH = Path("runs.sqlite3")


@pytest.fixture(params=[open_ledger, open_checkpointer], ids=["ledger", "checkpointer"])
def opening(request: pytest.FixtureRequest) -> Opening:
    return request.param  # type: ignore[no-any-return]


def changed(path: Path, sql: str) -> None:
    raw = sqlite3.connect(path)
    raw.executescript(sql)
    raw.close()


async def opened_once(opening: Opening, path: Path) -> None:
    async with opening(path):
        pass


async def test_folder_is_created_and_the_file_opens_again(opening: Opening, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "store.sqlite3"
    await opened_once(opening, path)
    await opened_once(opening, path)
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    expected = LEDGER_VERSION if opening is open_ledger else CHECKPOINT_VERSION
    assert raw.execute("PRAGMA user_version").fetchone() == (expected,)
    raw.close()


async def test_newer_version_is_left_alone(opening: Opening, tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    await opened_once(opening, path)
    changed(path, "PRAGMA user_version=3")
    own = LEDGER_VERSION if opening is open_ledger else CHECKPOINT_VERSION
    with pytest.raises(StoreVersionError, match=f"version 3.*reads store version {own}") as caught:
        await opened_once(opening, path)
    assert "GEMS_HOME" in str(caught.value.hint)
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA user_version").fetchone() == (3,)
    raw.close()


async def test_damaged_checkpoints_do_not_stop_a_migration(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    await opened_once(open_checkpointer, path)
    columns = "INSERT INTO checkpoints VALUES ('run', '', 'a', NULL, 'msgpack', x'ff00', '{}')"
    changed(path, f"{columns}; PRAGMA user_version=1")
    await opened_once(open_checkpointer, path)
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA user_version").fetchone() == (CHECKPOINT_VERSION,)
    assert raw.execute("SELECT checkpoint FROM checkpoints").fetchone() == (b"\xff\x00",)
    raw.close()


async def test_foreign_database_is_left_alone(opening: Opening, tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    changed(path, "CREATE TABLE bookmarks (url TEXT)")
    before = path.read_bytes()
    with pytest.raises(StoreVersionError, match="another program"):
        await opened_once(opening, path)
    assert path.read_bytes() == before


async def test_garbage_is_a_damaged_store(opening: Opening, tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    path.write_bytes(b"This is no database. " * 500)
    with pytest.raises(CorruptStoreError, match="damaged"):
        await opened_once(opening, path)
    assert path.read_bytes().startswith(b"This is no database.")


async def test_file_where_the_folder_should_be(opening: Opening, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(StorageError):
        await opened_once(opening, tmp_path / "home" / "store.sqlite3")


async def test_folder_where_the_file_should_be(opening: Opening, tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        await opened_once(opening, tmp_path)


async def test_many_open_the_same_new_file_at_once(opening: Opening, tmp_path: Path) -> None:
    opened = (opened_once(opening, tmp_path / "store.sqlite3") for _ in range(16))
    assert await asyncio.gather(*opened, return_exceptions=True) == [None] * 16


async def test_lock_of_another_while_wal_mode_is_set_is_waited_for(
    opening: Opening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sqlite3.connect(tmp_path / "store.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waited: list[float] = []

    async def let_go(seconds: float) -> None:
        waited.append(seconds)
        if other.in_transaction:
            other.execute("ROLLBACK")

    monkeypatch.setattr("gems.memory.sqlite.asyncio.sleep", let_go)
    try:
        await opened_once(opening, tmp_path / "store.sqlite3")
    finally:
        other.close()
    assert waited


_OPEN = """
import asyncio, sys
from pathlib import Path
from gems.memory.ledger import open_ledger
from gems.memory.checkpointer import open_checkpointer

async def main():
    for number in range(20):
        for opening in (open_ledger, open_checkpointer):
            async with opening(Path(sys.argv[1]) / str(number) / f"{opening.__name__}.sqlite3"):
                pass

print("ready", flush=True)
sys.stdin.readline()
asyncio.run(main())
"""


def test_processes_that_start_at_once_share_a_new_home(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _OPEN, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        told = []
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        for worker in workers:
            told.append(worker.communicate(timeout=300)[1])
        assert [worker.returncode for worker in workers] == [0, 0, 0], told
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate(timeout=300)


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), DiskFullError),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), DiskFullError),
        (sqlite3.OperationalError("database or disk is full"), DiskFullError),
        (sqlite3.DatabaseError("database disk image is malformed"), CorruptStoreError),
        (sqlite3.DatabaseError("file is not a database"), CorruptStoreError),
        (sqlite3.OperationalError("Could not decode to UTF-8 column 'type' with text '?'"), CorruptStoreError),
        (sqlite3.OperationalError("no such column: channel"), CorruptStoreError),
        (UnicodeDecodeError("utf-8", b"\x8c", 0, 1, "invalid start byte"), CorruptStoreError),
        (PermissionError(errno.EACCES, "Permission denied"), StorageError),
        (sqlite3.OperationalError("attempt to write a readonly database"), StorageError),
        (sqlite3.OperationalError("database is locked"), StorageError),
    ],
)
def test_faults_have_names(error: Exception, name: type[StorageError]) -> None:
    found = storage_error(error, PATH)
    assert type(found) is name
    assert str(PATH) in found.message


def test_named_fault_keeps_its_name() -> None:
    known = DiskFullError("full")
    assert storage_error(known, PATH) is known


@pytest.mark.parametrize("said", ["disk I/O error", "unable to open database file"])
@pytest.mark.parametrize(("free", "name"), [(0, DiskFullError), (4096, DiskFullError), (10**9, StorageError)])
def test_disk_is_full_where_sqlite_does_not_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, free: int, name: type[StorageError]
) -> None:
    asked: list[Path] = []

    def usage(path: Path) -> Any:
        asked.append(path)
        return SimpleNamespace(free=free)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    found = storage_error(sqlite3.OperationalError(said), tmp_path / "store.sqlite3")
    assert type(found) is name
    assert asked == [tmp_path]


def test_disk_about_which_nothing_is_known(tmp_path: Path) -> None:
    found = storage_error(sqlite3.OperationalError("disk I/O error"), tmp_path / "none" / "store.sqlite3")
    assert type(found) is StorageError


@pytest.mark.parametrize(
    "error", [TypeError("no"), ValueError("no"), KeyError("no"), sqlite3.DatabaseError("malformed")]
)
def test_what_cannot_be_decoded_is_damaged(error: Exception) -> None:
    with pytest.raises(CorruptStoreError, match="store") as caught, reading(Path("store")):
        raise error
    assert caught.value.__cause__ is error
    assert "Move it away" in caught.value.hint


def test_errors_of_ours_keep_their_names_while_reading() -> None:
    known = DiskFullError("full")
    with pytest.raises(DiskFullError) as caught, reading(Path("store")):
        raise known
    assert caught.value is known


def test_what_is_nested_too_deeply_is_damaged() -> None:
    with pytest.raises(CorruptStoreError, match="RecursionError"), reading(Path("checkpoints.sqlite3")):
        checkpoint_serializer().loads_typed(("json", b"[" * 50_000))


async def test_writes_at_the_same_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    """A cursor that the event loop's thread freed used to reset the statement that SQLite's thread was running."""
    path = tmp_path / "store.sqlite3"
    async with open_database(path, 1, "CREATE TABLE IF NOT EXISTS pairs(writer, number)") as connection:
        rows = SqliteRows(connection, path)

        async def write(writer: int) -> None:
            for number in range(300):
                await rows.write("INSERT INTO pairs VALUES (?, ?)", (writer, number))

        await asyncio.gather(*(write(writer) for writer in range(16)))
        ((count,),) = await rows.all("SELECT count(*) FROM pairs")
    assert count == 16 * 300


async def test_a_cancelled_write_is_committed(tmp_path: Path) -> None:
    """Otherwise its statement would lock the file for others."""
    path = tmp_path / "rows.sqlite3"
    loop = asyncio.get_running_loop()
    async with open_database(path, 1, "CREATE TABLE IF NOT EXISTS found (value TEXT);") as connection:
        write = asyncio.create_task(SqliteRows(connection, path).write("INSERT INTO found VALUES (?)", ("a",)))

        def cancel_at_insert(statement: str) -> None:
            if statement.startswith("INSERT"):
                loop.call_soon_threadsafe(write.cancel)
                # The task is cancelled before the statement is done.
                time.sleep(0.1)

        await connection.set_trace_callback(cancel_at_insert)
        with pytest.raises(asyncio.CancelledError):
            await write
        with contextlib.closing(sqlite3.connect(path, timeout=0)) as other, other:
            other.execute("INSERT INTO found VALUES ('b')")
            assert other.execute("SELECT value FROM found").fetchall() == [("a",), ("b",)]


async def test_schema_that_cannot_be_decoded_is_damage(tmp_path: Path, opening: Opening) -> None:
    path = tmp_path / "store.sqlite3"
    async with opening(path):
        pass
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE", b"\x8c\x8c\x8c\x8c\x8c\x8c TABLE"))
    with pytest.raises(CorruptStoreError, match="is damaged"):
        async with opening(path):
            pass
