"""Pending operations on the experience store, in an SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiosqlite

from gems.memory.experience import PendingOp
from gems.memory.sqlite import open_database, storage_error

OUTBOX_VERSION = 1
_OUTBOX_SCHEMA = """
CREATE TABLE IF NOT EXISTS operations (
    id TEXT PRIMARY KEY, at TEXT NOT NULL, operation TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS operations_pending ON operations (done, at);
"""


class Outbox:
    """The pending operations; see `open_outbox`. Any number of processes may share the file."""

    def __init__(self, connection: aiosqlite.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    async def add(self, operation: PendingOp) -> None:
        """Store an operation until it is done; a credit that was done before is not stored again."""
        # A put replaces an earlier one with its id, done or not; a credit would count twice.
        verb = "INSERT OR REPLACE" if operation["kind"] == "put" else "INSERT OR IGNORE"
        await self._write(
            verb + " INTO operations (id, at, operation) VALUES (?,?,?)",
            [(operation["id"], _timestamp(), json.dumps(operation, ensure_ascii=False))],
        )

    async def pending(self, limit: int) -> list[PendingOp]:
        """Return the pending operations, oldest first."""
        sql = "SELECT operation FROM operations WHERE done=0 ORDER BY at, rowid LIMIT ?"
        return [json.loads(row[0]) for row in await self._all(sql, (limit,))]

    async def done(self, operations: Sequence[PendingOp]) -> None:
        """Mark operations as done: puts are deleted, of a credit only the id stays."""
        # Compared with what was done, since a newer put with the same id may have been added meanwhile.
        puts = [(op["id"], json.dumps(op, ensure_ascii=False)) for op in operations if op["kind"] == "put"]
        await self._write("DELETE FROM operations WHERE id=? AND operation=?", puts)
        credited = [(op["id"],) for op in operations if op["kind"] == "credit"]
        await self._write("UPDATE operations SET done=1, operation='' WHERE id=?", credited)

    async def count(self) -> int:
        """Count the pending operations."""
        ((number,),) = await self._all("SELECT count(*) FROM operations WHERE done=0", ())
        return int(number)

    async def forget(self, keys: Sequence[tuple[Sequence[str], str]]) -> int:
        """Delete pending operations on these items (namespace, key); return their number."""
        named = {(tuple(namespace), key) for namespace, key in keys}
        pending = [op for op in await self.pending(2**31) if (tuple(op["namespace"]), op["key"]) in named]
        await self._write("DELETE FROM operations WHERE id=?", [(op["id"],) for op in pending])
        return len(pending)

    async def _all(self, sql: str, values: tuple[Any, ...]) -> list[Any]:
        try:
            async with self._connection.execute(sql, values) as cursor:
                return list(await cursor.fetchall())
        except sqlite3.Error as error:
            raise storage_error(error, self._path) from error

    async def _write(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if not rows:
            return
        try:
            await self._connection.executemany(sql, rows)
            await self._connection.commit()
        except sqlite3.Error as error:
            raise storage_error(error, self._path) from error


@asynccontextmanager
async def open_outbox(path: Path) -> AsyncIterator[Outbox]:
    """Open the outbox in the SQLite file at `path`; errors as in `open_database`."""
    async with open_database(path, OUTBOX_VERSION, _OUTBOX_SCHEMA) as connection:
        yield Outbox(connection, path)


def _timestamp() -> str:
    return datetime.now(UTC).isoformat()
