"""Open SQLite files in WAL mode and check their version."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite

from gems.errors import StoreVersionError
from gems.memory.faults import storage_error

_BUSY_MS = 15_000
_WAL_WAIT_S = 0.05
_WAL_ATTEMPTS = 300


@asynccontextmanager
async def open_database(path: Path, version: int, schema: str = "") -> AsyncIterator[aiosqlite.Connection]:
    """Open the SQLite file at `path`, creating it and its folder if needed.

    Args:
        path: The file.
        version: The version of the tables, stored in `user_version`.
        schema: SQL that creates the tables, repeatable.

    Raises:
        StoreVersionError: a newer version or another program wrote the file.
        CorruptStoreError: the file is damaged.
        StorageError: the file cannot be opened or written.
    """
    try:
        await asyncio.to_thread(_test_open, path)
        connection = await aiosqlite.connect(path)
    except (OSError, sqlite3.Error) as error:
        raise storage_error(error, path) from error
    try:
        try:
            await _prepare(connection, path, version, schema)
        except sqlite3.Error as error:
            raise storage_error(error, path) from error
        yield connection
    finally:
        await connection.close()


def _test_open(path: Path) -> None:
    """Open the file once: if that failed in aiosqlite, its thread would outlive the event loop."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sqlite3.connect(path).close()


async def _prepare(connection: aiosqlite.Connection, path: Path, version: int, schema: str) -> None:
    await connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    # In this order: a process that creates the tables at the same time sets the version with them.
    tables = await _query_int(connection, "SELECT count(*) FROM sqlite_master WHERE type='table'")
    found = await _query_int(connection, "PRAGMA user_version")
    if found > version or (found == 0 and tables):
        whose = f"version {found} of it" if found else "another program"
        raise StoreVersionError(
            f"{path} was written by {whose}; this GEMS reads version {version}.",
            hint="Use the GEMS that wrote it, or set GEMS_HOME to another folder.",
        )
    # Checkpoints are rows of a few kilobytes on pages of their own: small pages waste less space.
    await connection.execute("PRAGMA page_size=1024")
    await _use_wal(connection)
    # NORMAL loses nothing if a process is killed; only a power cut may lose the last transactions.
    await connection.execute("PRAGMA synchronous=NORMAL")
    await connection.executescript(f"BEGIN IMMEDIATE; {schema}; PRAGMA user_version={version}; COMMIT;")


async def _use_wal(connection: aiosqlite.Connection) -> None:
    """Set WAL mode, with retries: SQLite does not wait for a lock here, whatever the timeout."""
    for left in range(_WAL_ATTEMPTS - 1, -1, -1):
        try:
            await connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or not left:
                raise
            await asyncio.sleep(_WAL_WAIT_S)
        else:
            return


async def _query_int(connection: aiosqlite.Connection, sql: str) -> int:
    async with connection.execute(sql) as cursor:
        row = await cursor.fetchone()
    return int(row[0]) if row else 0
