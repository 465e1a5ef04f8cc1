"""Write experiences and credits to the store in the background, by an outbox on disk."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from langgraph.store.base import BaseStore, GetOp, Item, Op, PutOp
from pydantic import TypeAdapter

from gems.errors import GemsError, MemoryUnavailableError
from gems.memory.experience import PendingOp, sum_records
from gems.memory.sqlite import SqliteRows, open_database, set_damaged_aside

OUTBOX_VERSION = 1
_OUTBOX_SCHEMA = """
CREATE TABLE IF NOT EXISTS operations (
    id TEXT PRIMARY KEY, at TEXT NOT NULL, operation TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS operations_pending ON operations (done, at);
"""
_OPERATION = TypeAdapter(PendingOp)
_REBUILD = "`gems memory rebuild` writes them anew from the trajectories of all runs."
logger = logging.getLogger(__name__)
BATCH = 64
_BATCH_DELAY_S = 3.0
"""Each batch costs two writes to the store of some ten milliseconds; the end of a run does not wait for it."""
_CLOSE_TIMEOUT_S = 10.0


class Outbox(SqliteRows):
    """The pending operations; see `open_outbox`. Any number of processes may share the file.

    `note` tells what was lost with a damaged file; empty if there was none.
    """

    note = ""

    async def add(self, operation: PendingOp) -> None:
        """Store an operation until it is done; a credit that was done before is not stored again."""
        # A put replaces an earlier one with its id, done or not; a credit would count twice.
        verb = "INSERT OR REPLACE" if operation["kind"] == "put" else "INSERT OR IGNORE"
        row = (operation["id"], datetime.now(UTC).isoformat(), json.dumps(operation, ensure_ascii=False))
        await self.write(verb + " INTO operations (id, at, operation) VALUES (?,?,?)", row)

    async def pending(self, limit: int) -> list[PendingOp]:
        """Return the pending operations, oldest first."""
        sql = "SELECT id, operation FROM operations WHERE done=0 ORDER BY at, rowid LIMIT ?"
        while True:
            found = [(row[0], _read_operation(row[1])) for row in await self.all(sql, (limit,))]
            unreadable = [(name,) for name, operation in found if operation is None]
            if not unreadable:
                return [operation for _, operation in found if operation is not None]
            # Kept in the file, and out of the way of the others.
            logger.error(
                "%d experiences in %s cannot be read and are left out. %s", len(unreadable), self._path, _REBUILD
            )
            await self.write("UPDATE operations SET done=2 WHERE id=?", *unreadable)

    async def done(self, operations: Sequence[PendingOp]) -> None:
        """Mark operations as done: puts are deleted, of a credit only the id stays."""
        # Compared with what was done, since a newer put with the same id may have been added meanwhile.
        puts = [(op["id"], json.dumps(op, ensure_ascii=False)) for op in operations if op["kind"] == "put"]
        await self.write("DELETE FROM operations WHERE id=? AND operation=?", *puts)
        credited = [(op["id"],) for op in operations if op["kind"] == "credit"]
        await self.write("UPDATE operations SET done=1, operation='' WHERE id=?", *credited)

    async def count(self) -> int:
        """Count the pending operations."""
        ((number,),) = await self.all("SELECT count(*) FROM operations WHERE done=0")
        return int(number)

    async def forget(self, keys: Sequence[tuple[Sequence[str], str]]) -> int:
        """Delete pending operations on these items (namespace, key); return their number."""
        named = {(tuple(namespace), key) for namespace, key in keys}
        pending = [op for op in await self.pending(2**31) if (tuple(op["namespace"]), op["key"]) in named]
        await self.write("DELETE FROM operations WHERE id=?", *((op["id"],) for op in pending))
        return len(pending)


def _read_operation(text: Any) -> PendingOp | None:
    """Return an operation, or None if the text was damaged."""
    try:
        operation = json.loads(text)
        _OPERATION.validate_python(operation)
    except (ValueError, RecursionError):
        return None
    # As it was written, since `done` compares the text.
    checked: PendingOp = operation
    return checked


@asynccontextmanager
async def open_outbox(path: Path) -> AsyncIterator[Outbox]:
    """Open the outbox in the SQLite file at `path`; errors as in `open_database`.

    A damaged file is set aside, since it must not stop runs: it holds nothing that the trajectories do not.
    """
    aside = await asyncio.to_thread(set_damaged_aside, path)
    async with open_database(path, OUTBOX_VERSION, _OUTBOX_SCHEMA) as connection:
        outbox = Outbox(connection, path)
        if aside is not None:
            outbox.note = f"The outbox of experiences was damaged and is now {aside}. {_REBUILD}"
            logger.error("%s", outbox.note)
        yield outbox


async def apply(store: BaseStore, operations: Sequence[PendingOp]) -> None:
    """Execute operations on a store, all reads in one batch and all writes in another.

    An item that is written again keeps its track record; a credit for a deleted item is dropped.
    """
    keys = list(dict.fromkeys((tuple(op["namespace"]), op["key"]) for op in operations))
    reads: list[Op] = [GetOp(namespace, key) for namespace, key in keys]
    found: list[Any] = await store.abatch(reads)
    known = {key: item for key, item in zip(keys, found, strict=True) if isinstance(item, Item)}
    values: dict[tuple[tuple[str, ...], str], dict[str, Any]] = {}
    for op in operations:
        key = (tuple(op["namespace"]), op["key"])
        before = values.get(key) or (known[key].value if key in known else None)
        if op["kind"] == "put":
            kept = before.get("record") if before else None
            values[key] = op["value"] | ({"record": kept} if kept else {})
        elif before is not None:
            values[key] = before | {"record": sum_records([before.get("record") or {}, op["value"]])}
    writes: list[Op] = [PutOp(namespace, key, value) for (namespace, key), value in values.items()]
    await store.abatch(writes)


class ExperienceWriter:
    """Writes the operations in the outbox to the store."""

    def __init__(self, store: BaseStore, outbox: Outbox) -> None:
        self._store, self._outbox = store, outbox
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def submit(self, operation: PendingOp) -> None:
        """Store an operation on disk before returning; it is executed soon after."""
        await self._outbox.add(operation)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain_soon())

    async def flush(self, timeout_s: float) -> GemsError | None:
        """Execute pending operations for at most `timeout_s` seconds; return any error that prevents it."""
        try:
            return await asyncio.wait_for(self._drain(), timeout_s)
        except TimeoutError:
            return MemoryUnavailableError(f"The store of experiences did not finish within {timeout_s:g} seconds.")

    async def pending(self) -> int:
        """Count the pending operations."""
        return await self._outbox.count()

    async def aclose(self) -> None:
        """Execute what is possible; the rest is done by the next process that opens this home."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if await self._outbox.count() and (fault := await self.flush(_CLOSE_TIMEOUT_S)):
            logger.warning("Experiences will be written later: %s", fault)

    async def _drain_soon(self) -> None:
        # Collect several rounds, possibly of several runs, into one batch.
        await asyncio.sleep(_BATCH_DELAY_S)
        if fault := await self._drain():
            logger.info("Experiences cannot be written yet: %s", fault)

    async def _drain(self) -> GemsError | None:
        try:
            async with self._writing:
                while operations := await self._outbox.pending(BATCH):
                    await apply(self._store, operations)
                    await self._outbox.done(operations)
        except GemsError as error:
            return error
        return None
