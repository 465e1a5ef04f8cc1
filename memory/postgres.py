"""Checkpoints, ledger and locks in a PostgreSQL database, shared by many machines."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import DictRow

from gems.errors import RunBusyError, StoreVersionError
from gems.memory.checkpointer import kept_writes
from gems.memory.locking import RunLocks
from gems.memory.ordering import go_on_behind
from gems.memory.rows import Values
from gems.memory.run_filter import SCORE
from gems.memory.serializing import checkpoint_serializer
from gems.memory.server import Connection, Server, server_error

logger = logging.getLogger(__name__)
# PostgreSQL's texts hold no NUL, so it stands as the mark and a digit, and so does the mark itself.
_MARK = "\ue000"
_SETUP_KEY = "gems: tables"
_POLL_S = 0.05
_PATIENCE = 4
_KEEP_S = 1.0


class PostgresRows:
    """See `Rows`; understands the few words in which SQLite differs."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def all(self, sql: str, values: Values) -> Sequence[Any]:
        """See `Rows`."""

        async def found() -> list[DictRow]:
            async with self._server.pool.connection() as connection:
                cursor = await connection.execute(_translated(sql), _escaped_all(values))
                return await cursor.fetchall()

        rows = await self._server.patiently(found)
        return [{name: unescaped(value) for name, value in row.items()} for row in rows]

    async def write(self, sql: str, values: Values) -> None:
        """See `Rows`."""

        async def written() -> None:
            async with self._server.pool.connection() as connection:
                await connection.execute(_translated(sql), _escaped_all(values))

        await self._server.patiently(written)


class PatientPostgresSaver(AsyncPostgresSaver):
    """The PostgreSQL saver, which waits for a server that is away for a moment.

    Like ours for SQLite it keeps nothing of a task that was cancelled.
    """

    def __init__(self, server: Server) -> None:
        super().__init__(server.pool, serde=checkpoint_serializer())
        self._server = server

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Keep a checkpoint."""
        values = {name: escaped(value) for name, value in checkpoint["channel_values"].items()}
        kept: Checkpoint = {**checkpoint, "channel_values": values}
        put = super().aput
        return await self._server.patiently(lambda: put(config, kept, metadata, new_versions))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Keep a task's writes; see `kept_writes`."""
        put, kept = super().aput_writes, kept_writes(writes)
        await self._server.patiently(lambda: put(config, kept, task_id, task_path))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that `config` names, or the newest of its thread; see `go_on_behind`."""
        get = super().aget_tuple
        return go_on_behind(await self._server.patiently(lambda: get(config)))

    async def alist(self, config: RunnableConfig | None, **wanted: Any) -> AsyncIterator[CheckpointTuple]:
        """The checkpoints of a thread, newest first."""
        try:
            async for found in super().alist(config, **wanted):
                go_on_behind(found)
                yield found
        except psycopg.Error as error:
            raise server_error(error, self._server.label) from error

    async def aget_delta_channel_history(self, **wanted: Any) -> Mapping[str, DeltaChannelHistory]:
        """What delta channels are made of again."""
        get = super().aget_delta_channel_history
        return await self._server.patiently(lambda: get(**wanted))

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete the checkpoints of a thread."""
        delete = super().adelete_thread
        await self._server.patiently(lambda: delete(thread_id))

    async def _load_checkpoint_tuple(self, value: DictRow) -> CheckpointTuple:
        found = await super()._load_checkpoint_tuple(value)
        values = found.checkpoint["channel_values"]
        values.update({name: unescaped(kept) for name, kept in values.items()})
        return found


class PostgresLocks(RunLocks):
    """Advisory locks, all on one connection of their own, which hold across machines.

    A server that starts anew has forgotten them, so they are taken again as soon as it is back.
    """

    def __init__(self, server: Server, connection: Connection) -> None:
        self._server = server
        self._connection = connection
        self._using = asyncio.Lock()
        self._held: set[str] = set()

    @asynccontextmanager
    async def hold(self, run: str) -> AsyncIterator[None]:
        """See `RunLocks`."""
        # A session may take its own lock twice, so who holds it in this process is known here alone.
        if run in self._held:
            raise _busy(run)
        self._held.add(run)
        try:
            if not await self._taken(run):
                raise _busy(run)
            try:
                yield
            finally:
                # Even where whoever held it is cancelled meanwhile.
                await asyncio.shield(self._let_go(run))
        finally:
            self._held.discard(run)

    async def is_locked(self, run: str) -> bool:
        """See `RunLocks`."""
        if run in self._held:
            return True
        number = lock_key(run) % 2**64
        sql = (
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype='advisory' AND granted AND objsubid=1"
            " AND database=(SELECT oid FROM pg_database WHERE datname=current_database())"
            " AND classid=%s::bigint::oid AND objid=%s::bigint::oid) AS yes"
        )
        return await self._asked(sql, (number >> 32, number % 2**32))

    async def keep(self) -> None:
        """Look after the connection until this is cancelled."""
        while True:
            await asyncio.sleep(_KEEP_S)
            try:
                await self._once("SELECT true AS yes", ())
            except psycopg.Error as error:
                logger.warning("Locks at %s cannot be looked after: %s", self._server.label, error)

    async def _taken(self, run: str) -> bool:
        for left in range(_PATIENCE - 1, -1, -1):
            if await self._asked("SELECT pg_try_advisory_lock(%s) AS yes", (lock_key(run),)):
                return True
            if left:
                await asyncio.sleep(_POLL_S)
        return False

    async def _let_go(self, run: str) -> None:
        try:
            await self._once("SELECT pg_advisory_unlock(%s) AS yes", (lock_key(run),))
        except psycopg.Error as error:
            # Without its connection the lock is let go of already.
            logger.warning("The lock of %s went with its connection: %s", run, error)

    async def _asked(self, sql: str, values: Values) -> bool:
        return await self._server.patiently(lambda: self._once(sql, values))

    async def _once(self, sql: str, values: Values) -> bool:
        async with self._using:
            if self._connection.closed or self._connection.broken:
                await self._reconnect()
            row = await (await self._connection.execute(sql, values)).fetchone()
        return bool(row and row["yes"])

    async def _reconnect(self) -> None:
        connection = await self._server.connect()
        for run in self._held:
            cursor = await connection.execute("SELECT pg_try_advisory_lock(%s) AS yes", (lock_key(run),))
            row = await cursor.fetchone()
            if not (row and row["yes"]):
                logger.error("The lock of %s was lost with the connection, and others hold it now.", run)
        self._connection = connection

    async def aclose(self) -> None:
        """Let go of everything."""
        await self._connection.close()


@asynccontextmanager
async def open_locks(server: Server) -> AsyncIterator[PostgresLocks]:
    """The locks of the server's database."""
    locks = PostgresLocks(server, await server.connect())
    keeping = asyncio.create_task(locks.keep())
    try:
        yield locks
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        await locks.aclose()


async def prepared(server: Server, version: int, schema: str) -> tuple[PostgresRows, PatientPostgresSaver]:
    """Ledger rows and checkpointer, once their tables are there.

    Raises:
        StoreVersionError: the tables were written by a newer version, or by another program.
        StorageError: the tables cannot be made.
    """
    saver = PatientPostgresSaver(server)
    try:
        async with await server.connect() as connection:
            await _alone(connection)
            await _make_tables(connection, server.label, version, schema)
            await saver.setup()
    except psycopg.Error as error:
        raise server_error(error, server.label) from error
    return PostgresRows(server), saver


async def _alone(connection: Connection) -> None:
    """Wait until nobody else makes tables; the lock goes with the connection.

    Waiting within the server would keep it from building an index for whoever has the lock.
    """
    while True:
        cursor = await connection.execute("SELECT pg_try_advisory_lock(%s) AS yes", (lock_key(_SETUP_KEY),))
        row = await cursor.fetchone()
        if row and row["yes"]:
            return
        await asyncio.sleep(_POLL_S)


async def _make_tables(connection: Connection, label: str, version: int, schema: str) -> None:
    cursor = await connection.execute(
        "SELECT to_regclass('gems_version') IS NOT NULL AS ours, to_regclass('runs') IS NOT NULL AS tables"
    )
    known = await cursor.fetchone() or {}
    found = 0
    if known.get("ours"):
        row = await (await connection.execute("SELECT max(version) AS v FROM gems_version")).fetchone()
        found = (row or {}).get("v") or 0
    if found > version or (found == 0 and known.get("tables")):
        whose = f"version {found} of it" if found else "another program"
        raise StoreVersionError(
            f"The tables at {label} were written by {whose}; this GEMS reads version {version}.",
            hint="Use the GEMS that wrote them, or name another database in GEMS_CHECKPOINT.",
        )
    async with connection.transaction():
        for statement in schema.replace("WITHOUT ROWID", "").split(";"):
            if statement.strip():
                await connection.execute(statement.encode())
        await connection.execute("CREATE TABLE IF NOT EXISTS gems_version (version INTEGER PRIMARY KEY)")
        await connection.execute("INSERT INTO gems_version VALUES (%s) ON CONFLICT DO NOTHING", (version,))


def lock_key(run: str) -> int:
    """The number of a run's lock, in [-2**63, 2**63)."""
    return int.from_bytes(hashlib.sha256(run.encode()).digest()[:8], signed=True)


def escaped(value: Any) -> Any:
    """A text without NUL that `unescaped` makes the same again; other values as they are."""
    if not isinstance(value, str) or not (_MARK in value or "\0" in value):
        return value
    return value.replace(_MARK, f"{_MARK}1").replace("\0", f"{_MARK}0")


def unescaped(value: Any) -> Any:
    """What `escaped` was given."""
    if not isinstance(value, str) or _MARK not in value:
        return value
    return value.replace(f"{_MARK}0", "\0").replace(f"{_MARK}1", _MARK)


def _escaped_all(values: Values) -> Values:
    return tuple(escaped(value) for value in values)


def _translated(sql: str) -> bytes:
    return sql.replace(SCORE, "(summary::json->>'score')::float8").replace("?", "%s").encode()


def _busy(run: str) -> RunBusyError:
    return RunBusyError(f"The run {run} is being worked on already.")
