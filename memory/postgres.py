"""Checkpointer, ledger rows and locks on PostgreSQL."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

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
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_exponential

from gems.errors import ConfigurationError, GemsError, StorageError
from gems.memory.checkpointer import (
    CHECKPOINT_VERSION,
    RENAMED_CHANNELS,
    advance_checkpoint_clock,
    checkpoint_serializer,
    kept_writes,
    rename_channels,
)
from gems.memory.ledger import LEDGER_SCHEMA
from gems.memory.locks import RunLocks, busy_error
from gems.memory.run_filter import SCORE
from gems.memory.sqlite import Values, version_error

logger = logging.getLogger(__name__)
RETRY_S = 10.0
"""How long calls are retried while the server is unreachable."""
_CONNECT_S = 5
_POOL_WAIT_S = 2.0
_MOST_CONNECTIONS = 10
_DOWN_HINT = "Check that the server is running and GEMS_CHECKPOINT is right, then continue with `gems resume`."
_KWARGS: dict[str, Any] = {
    "autocommit": True,
    "prepare_threshold": 0,
    "row_factory": dict_row,
    "connect_timeout": _CONNECT_S,
}
# Messages of servers that refuse a connection: error codes are rarely available while connecting.
_REFUSALS = ("authentication failed", "no password supplied", "does not exist", "no pg_hba.conf entry")

Connection = psycopg.AsyncConnection[DictRow]
Pool = AsyncConnectionPool[Connection]
ResultT = TypeVar("ResultT")
# PostgreSQL texts cannot contain NUL, so it is replaced by the mark and a digit, and so is the mark itself.
_NUL_MARK = "\ue000"
_SETUP_KEY = "gems: tables"
TABLES_VERSION = CHECKPOINT_VERSION
"""Version of all tables, which is raised with those of the checkpoints and of the ledger."""
_TRY_LOCK = "SELECT pg_try_advisory_lock(%s) AS yes"
_ADD_VERSION = "INSERT INTO gems_version VALUES (%s) ON CONFLICT DO NOTHING"
_POLL_S = 0.05
_LOCK_ATTEMPTS = 4
_CHECK_S = 1.0


class Server:
    """A database on a PostgreSQL server; the URL may contain a password, so only the label is shown."""

    def __init__(self, url: str, label: str, pool: Pool) -> None:
        self._url, self.label, self.pool = url, label, pool
        self._given_up = False

    async def connect(self) -> Connection:
        """Return a new connection outside of the pool."""
        return await psycopg.AsyncConnection.connect(self._url, **_KWARGS)

    async def with_retries(self, action: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Call `action`, possibly more than once, and retry for 10 seconds if the server is unreachable.

        After a failure, later calls try only once, until one succeeds.
        """

        async def call() -> ResultT:
            # `retrying` does not await what a lambda returns.
            return await action()

        retrying = AsyncRetrying(
            retry=retry_if_exception(_is_unreachable),
            stop=stop_after_delay(0 if self._given_up else RETRY_S),
            wait=wait_exponential(multiplier=0.1, max=1),
            reraise=True,
        )
        try:
            result: ResultT = await retrying(call)
        except psycopg.Error as error:
            self._given_up = self._given_up or _is_unreachable(error)
            raise server_error(error, self.label) from error
        self._given_up = False
        return result


@asynccontextmanager
async def open_server(url: str) -> AsyncIterator[Server]:
    """Connect to the server at `url`; ConfigurationError if it refuses the user or the database."""
    label = label_of(url)
    try:
        # The pool would only say that it took too long.
        await (await psycopg.AsyncConnection.connect(url, **_KWARGS)).close()
    except psycopg.Error as error:
        raise server_error(error, label, connecting=True) from error
    pool: Pool = AsyncConnectionPool(
        url,
        kwargs=_KWARGS,
        min_size=1,
        max_size=_MOST_CONNECTIONS,
        timeout=_POOL_WAIT_S,
        reconnect_timeout=RETRY_S,
        check=AsyncConnectionPool.check_connection,
        open=False,
    )
    async with pool:
        yield Server(url, label, pool)


def label_of(url: str) -> str:
    """Return host, port and database of a URL, without user and password; an invalid URL is not repeated."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        # The library's message may quote parts of the password.
        raise ConfigurationError(
            "Invalid GEMS_CHECKPOINT: it is not a PostgreSQL URL.",
            hint="Use postgresql://USER:PASSWORD@HOST:5432/DATABASE; write special characters in the password as %XX.",
        ) from None
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    return f"{host}:{parts.get('port') or 5432}/{parts.get('dbname') or parts.get('user') or ''}"


def server_error(error: psycopg.Error, label: str, *, connecting: bool = False) -> GemsError:
    """Return the error for a psycopg error about the database that `label` names."""
    message = " ".join(str(error).split())
    if connecting and any(mark in message for mark in _REFUSALS):
        return ConfigurationError(
            f"PostgreSQL at {label} refuses: {message}.",
            hint="Check user, password and database in GEMS_CHECKPOINT; `createdb` makes a database.",
        )
    if connecting or _is_unreachable(error):
        return StorageError(f"PostgreSQL at {label} cannot be reached: {message}.", hint=_DOWN_HINT)
    return StorageError(f"PostgreSQL at {label} refuses: {message}.", hint="See the server's log.")


def _is_unreachable(error: BaseException) -> bool:
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


class PostgresRows:
    """`Rows` in PostgreSQL; translates the few expressions in which SQLite differs."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def all(self, sql: str, values: Values) -> Sequence[Any]:
        return [{name: unescaped(v) for name, v in row.items()} for row in await self._execute(sql, values)]

    async def write(self, sql: str, values: Values) -> None:
        await self._execute(sql, values)

    async def _execute(self, sql: str, values: Values) -> list[DictRow]:
        translated = sql.replace(SCORE, "(summary::json->>'score')::float8").replace("?", "%s").encode()

        async def execute() -> list[DictRow]:
            async with self._server.pool.connection() as connection:
                cursor = await connection.execute(translated, [escaped(value) for value in values])
                return await cursor.fetchall() if cursor.description else []

        return await self._server.with_retries(execute)


class PatientPostgresSaver(AsyncPostgresSaver):
    """PostgreSQL saver that retries while the server is unreachable, and drops writes of cancelled tasks."""

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
        values = {name: escaped(value) for name, value in checkpoint["channel_values"].items()}
        kept: Checkpoint = {**checkpoint, "channel_values": values}
        put = super().aput
        return await self._server.with_retries(lambda: put(config, kept, metadata, new_versions))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        put, kept = super().aput_writes, kept_writes(writes)
        await self._server.with_retries(lambda: put(config, kept, task_id, task_path))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        get = super().aget_tuple
        return advance_checkpoint_clock(await self._server.with_retries(lambda: get(config)))

    async def alist(self, config: RunnableConfig | None, **wanted: Any) -> AsyncIterator[CheckpointTuple]:
        try:
            async for found in super().alist(config, **wanted):
                advance_checkpoint_clock(found)
                yield found
        except psycopg.Error as error:
            raise server_error(error, self._server.label) from error

    async def aget_delta_channel_history(self, **wanted: Any) -> Mapping[str, DeltaChannelHistory]:
        get = super().aget_delta_channel_history
        return await self._server.with_retries(lambda: get(**wanted))

    async def adelete_thread(self, thread_id: str) -> None:
        delete = super().adelete_thread
        await self._server.with_retries(lambda: delete(thread_id))

    async def _load_checkpoint_tuple(self, value: DictRow) -> CheckpointTuple:
        found = await super()._load_checkpoint_tuple(value)
        values = found.checkpoint["channel_values"]
        values.update({name: unescaped(kept) for name, kept in values.items()})
        return found


class PostgresLocks(RunLocks):
    """Advisory locks across machines, on one connection. A restarted server lost them: acquired again."""

    def __init__(self, server: Server, connection: Connection) -> None:
        self._server, self.connection = server, connection
        self._connection_lock = asyncio.Lock()
        self._held: set[str] = set()

    @asynccontextmanager
    async def hold(self, run: str) -> AsyncIterator[None]:
        # A session may acquire its own lock twice, so locks held by this process are tracked here.
        if run in self._held:
            raise busy_error(run)
        self._held.add(run)
        try:
            if not await self._acquire(run):
                raise busy_error(run)
            try:
                yield
            finally:
                # Also if the holder is cancelled meanwhile.
                await asyncio.shield(self._release(run))
        finally:
            self._held.discard(run)

    async def is_locked(self, run: str) -> bool:
        if run in self._held:
            return True
        number = lock_key(run) % 2**64
        sql = (
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype='advisory' AND granted AND objsubid=1"
            " AND database=(SELECT oid FROM pg_database WHERE datname=current_database())"
            " AND classid=%s::bigint::oid AND objid=%s::bigint::oid) AS yes"
        )
        return await self._server.with_retries(lambda: self._query(sql, (number >> 32, number % 2**32)))

    async def keep(self) -> None:
        """Check the connection every second until cancelled."""
        while True:
            await asyncio.sleep(_CHECK_S)
            try:
                await self._query("SELECT true AS yes", ())
            except psycopg.Error as error:
                logger.warning("The connection of the locks at %s cannot be checked: %s", self._server.label, error)

    async def _acquire(self, run: str) -> bool:
        for left in range(_LOCK_ATTEMPTS - 1, -1, -1):
            if await self._server.with_retries(lambda: self._query(_TRY_LOCK, (lock_key(run),))):
                return True
            if left:
                await asyncio.sleep(_POLL_S)
        return False

    async def _release(self, run: str) -> None:
        try:
            await self._query("SELECT pg_advisory_unlock(%s) AS yes", (lock_key(run),))
        except psycopg.Error as error:
            # Without its connection the lock is already released.
            logger.warning("The lock of %s was released with its connection: %s", run, error)

    async def _query(self, sql: str, values: Values) -> bool:
        async with self._connection_lock:
            if self.connection.closed or self.connection.broken:
                connection = await self._server.connect()
                for run in self._held:
                    if not await _is_true(connection, _TRY_LOCK, (lock_key(run),)):
                        logger.error("The lock of %s was lost with the connection; another process holds it now.", run)
                self.connection = connection
            return await _is_true(self.connection, sql, values)


@asynccontextmanager
async def open_locks(server: Server) -> AsyncIterator[PostgresLocks]:
    """Open the locks in the server's database."""
    locks = PostgresLocks(server, await server.connect())
    keeping = asyncio.create_task(locks.keep())
    try:
        yield locks
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        # Closing the connection releases all locks.
        await locks.connection.close()


async def open_tables(server: Server) -> tuple[PostgresRows, PatientPostgresSaver]:
    """Create or migrate the tables of ledger and checkpointer; StoreVersionError if that is impossible."""
    saver = PatientPostgresSaver(server)
    try:
        async with await server.connect() as connection:
            # No other process may create tables; the lock ends with the connection. Waiting within the server
            # would keep it from building an index for the process that has the lock.
            while not await _is_true(connection, _TRY_LOCK, (lock_key(_SETUP_KEY),)):  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)
            found = await _make_tables(connection, server.label)
            await saver.setup()
            if found < TABLES_VERSION:
                async with connection.transaction():
                    await _migrate(connection)
                    await connection.execute(_ADD_VERSION, (TABLES_VERSION,))
    except psycopg.Error as error:
        raise server_error(error, server.label) from error
    return PostgresRows(server), saver


async def _is_true(connection: Connection, sql: str, values: Values) -> bool:
    row = await (await connection.execute(sql.encode(), values)).fetchone()
    return bool(row and row["yes"])


async def _make_tables(connection: Connection, label: str) -> int:
    """Create the tables that do not exist, and return the version of all."""
    found = 0
    if await _is_true(connection, "SELECT to_regclass('gems_version') IS NOT NULL AS yes", ()):
        row = await (await connection.execute("SELECT max(version) AS v FROM gems_version")).fetchone()
        found = (row or {}).get("v") or 0
    has_tables = await _is_true(connection, "SELECT to_regclass('runs') IS NOT NULL AS yes", ())
    if found > TABLES_VERSION or (found == 0 and has_tables):
        raise version_error(f"The database {label}", found, TABLES_VERSION, "GEMS_CHECKPOINT to another database")
    async with connection.transaction():
        for statement in LEDGER_SCHEMA.replace("WITHOUT ROWID", "").split(";"):
            if statement.strip():
                await connection.execute(statement.encode())
        await connection.execute("CREATE TABLE IF NOT EXISTS gems_version (version INTEGER PRIMARY KEY)")
        if not found:
            await connection.execute(_ADD_VERSION, (TABLES_VERSION,))
    return found or TABLES_VERSION


async def _migrate(connection: Connection) -> None:
    async with connection.cursor("checkpoints") as cursor:
        await cursor.execute(
            "SELECT thread_id, checkpoint_id, checkpoint, metadata FROM checkpoints WHERE checkpoint_ns = ''"
        )
        async for row in cursor:
            rename_channels(row["checkpoint"], row["metadata"])
            await connection.execute(
                "UPDATE checkpoints SET checkpoint = %s, metadata = %s"
                " WHERE thread_id = %s AND checkpoint_ns = '' AND checkpoint_id = %s",
                (Jsonb(row["checkpoint"]), Jsonb(row["metadata"]), row["thread_id"], row["checkpoint_id"]),
            )
    for old, new in RENAMED_CHANNELS.items():
        for table in ("checkpoint_blobs", "checkpoint_writes"):
            sql = f"UPDATE {table} SET channel = %s WHERE channel = %s AND checkpoint_ns = ''"  # noqa: S608
            await connection.execute(sql.encode(), (new, old))


def lock_key(run: str) -> int:
    """Return the number of a run's lock, in [-2**63, 2**63)."""
    return int.from_bytes(hashlib.sha256(run.encode()).digest()[:8], signed=True)


def escaped(value: Any) -> Any:
    """Return a text without NUL, for `unescaped` to reverse; other values unchanged."""
    if not isinstance(value, str) or not (_NUL_MARK in value or "\0" in value):
        return value
    return value.replace(_NUL_MARK, f"{_NUL_MARK}1").replace("\0", f"{_NUL_MARK}0")


def unescaped(value: Any) -> Any:
    """Reverse `escaped`."""
    if not isinstance(value, str) or _NUL_MARK not in value:
        return value
    return value.replace(f"{_NUL_MARK}0", "\0").replace(f"{_NUL_MARK}1", _NUL_MARK)
