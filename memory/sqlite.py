"""SQLite databases: opening, rows, and errors of storage."""

from __future__ import annotations

import asyncio
import errno
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import aiosqlite

from gems.errors import CorruptStoreError, DiskFullError, StorageError, StoreVersionError
from gems.files.shared import changing

_FULL = (errno.ENOSPC, errno.EDQUOT)
_DAMAGED = (
    "malformed", "not a database", "disk image", "corrupt", "Could not decode", "no such column", "no such table"
)  # fmt: skip
# SQLite's errors if there is no space for the files beside a database, the largest of which has 32 KiB.
_MAYBE_FULL = ("disk I/O error", "unable to open database file")
_ALMOST_NO_SPACE = 2**15
# Errors of decoders on overwritten bytes.
CORRUPT = (TypeError, ValueError, LookupError, AttributeError, NotImplementedError, EOFError, RecursionError)
_MOVE_HINT = "Move it away to start with an empty one; images are stored separately and stay."
_BUSY_MS = 15_000
_WAL_WAIT_S = 0.05
_WAL_ATTEMPTS = 300


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise any error of reading `path` as CorruptStoreError if it is damaged, else as StorageError."""
    try:
        with translate_storage_errors(path):
            yield
    except CORRUPT as error:
        message = f"{type(error).__name__}: {error}"
        raise CorruptStoreError(f"{path} cannot be decoded ({message}).", hint=_MOVE_HINT) from error


@contextmanager
def translate_storage_errors(path: Path) -> Iterator[None]:
    """Raise errors of SQLite and of the file system about `path` as `StorageError`."""
    try:
        yield
    # An error that quotes damaged text cannot be decoded itself.
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
        raise storage_error(error, path) from error


def storage_error(error: Exception, path: Path) -> StorageError:
    """Return the `StorageError` for an error of SQLite or of the file system about `path`."""
    if isinstance(error, StorageError):
        return error
    message = str(error)
    if _is_disk_full(error, path):
        return DiskFullError(f"{path} could not be written: no space is left on the disk.")
    if isinstance(error, UnicodeDecodeError) or (isinstance(error, sqlite3.Error) and _names_damage(message)):
        return CorruptStoreError(f"{path} is damaged ({message}).", hint=_MOVE_HINT)
    return StorageError(f"{path} could not be used: {message}.")


def _names_damage(message: str) -> bool:
    return any(mark in message for mark in _DAMAGED)


def _is_disk_full(error: Exception, path: Path) -> bool:
    message = str(error)
    if (isinstance(error, OSError) and error.errno in _FULL) or "disk is full" in message:
        return True
    if not isinstance(error, sqlite3.Error) or not any(mark in message for mark in _MAYBE_FULL):
        return False
    try:
        return shutil.disk_usage(path.parent).free < _ALMOST_NO_SPACE
    except OSError:
        # Nothing is known about the disk, so the error stays as it is.
        return False


Migration = Callable[[aiosqlite.Connection], Awaitable[None]]


@asynccontextmanager
async def open_database(
    path: Path, version: int, schema: str = "", migrate: Migration | None = None, *, autocommit: bool = True
) -> AsyncIterator[aiosqlite.Connection]:
    """Open the SQLite file at `path`, creating it and its folder if needed.

    `version` is the version of the tables, stored in `user_version`; `migrate` brings the tables of an older
    version to it, in one transaction; `schema` is SQL that creates the tables and can be repeated.

    Without `autocommit` statements that write begin a transaction, which the caller commits.

    Raises StoreVersionError if a newer version or another program wrote the file, CorruptStoreError if it is
    damaged, StorageError if it cannot be opened or written.
    """
    with translate_storage_errors(path):
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        # If opening failed in aiosqlite, its thread would outlive the event loop.
        await asyncio.to_thread(lambda: sqlite3.connect(path).close())
        connection = await aiosqlite.connect(path, isolation_level=None if autocommit else "DEFERRED")
    try:
        with translate_storage_errors(path):
            await _prepare(connection, path, version, schema, migrate)
        yield connection
    finally:
        await connection.close()


def set_damaged_aside(path: Path) -> Path | None:
    """Move a SQLite file that is damaged aside, with the files beside it; None if it is whole. Blocking.

    Only for a file whose loss is worth less than a stop. StorageError if it cannot be moved.
    """
    with translate_storage_errors(path), changing(path):
        if not path.exists() or not _find_damage(path):
            return None
        aside = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}")
        for ending in ("", "-wal", "-shm"):
            if (beside := path.with_name(path.name + ending)).exists():
                beside.rename(aside.with_name(aside.name + ending))
        return aside


def _find_damage(path: Path) -> bool:
    """Return whether SQLite finds damage in a file; what it cannot read for another reason is not damaged."""
    connection = sqlite3.connect(path)
    try:
        connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        return list(connection.execute("PRAGMA quick_check(1)")) != [("ok",)]
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return isinstance(storage_error(error, path), CorruptStoreError)
    finally:
        connection.close()


async def _prepare(
    connection: aiosqlite.Connection, path: Path, version: int, schema: str, migrate: Migration | None
) -> None:
    await connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    # In this order: a process that creates the tables at the same time sets the version with them.
    tables = await _query_int(connection, "SELECT count(*) FROM sqlite_master WHERE type='table'")
    found = await _query_int(connection, "PRAGMA user_version")
    if found > version or (found == 0 and tables):
        raise version_error(str(path), found, version, "GEMS_HOME to another folder")
    # Checkpoints are rows of a few kilobytes on pages of their own: small pages waste less space.
    await connection.execute("PRAGMA page_size=1024")
    await _use_wal(connection)
    # NORMAL loses nothing if a process is killed; only a power cut may lose the last transactions.
    await connection.execute("PRAGMA synchronous=NORMAL")
    if migrate is not None and 0 < found < version:
        await connection.execute("BEGIN IMMEDIATE")
        # Another process may have migrated the tables meanwhile.
        if await _query_int(connection, "PRAGMA user_version") < version:
            await migrate(connection)
            await connection.execute(f"PRAGMA user_version={version}")
        await connection.commit()
    await connection.executescript(f"BEGIN IMMEDIATE; {schema}; PRAGMA user_version={version}; COMMIT;")


def version_error(label: str, found: int, version: int, other: str) -> StoreVersionError:
    """Return the error about tables of another version, or of another program if `found` is 0."""
    writer = f"a newer version of GEMS (store version {found})" if found else "another program"
    return StoreVersionError(
        f"{label} was written by {writer}; this version of GEMS reads store version {version} and older.",
        hint=f"Install the version that wrote it, or set {other}.",
    )


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


Values = tuple[Any, ...]


class Rows(Protocol):
    """Statements in SQLite's dialect, with `?` for each value. Raises StorageError if the database fails."""

    async def all(self, sql: str, values: Values) -> Sequence[Any]:
        """Return the matching rows, each by column names."""

    async def write(self, sql: str, values: Values) -> None:
        """Execute a statement and commit it."""


class SqliteRows:
    """`Rows` in a SQLite file; `connection` commits by itself."""

    def __init__(self, connection: aiosqlite.Connection, path: Path) -> None:
        connection.row_factory = aiosqlite.Row
        self._connection, self._path = connection, path

    async def all(self, sql: str, values: Values = ()) -> Sequence[Any]:
        with translate_storage_errors(self._path):
            return list(await self._connection.execute_fetchall(sql, values))

    async def write(self, sql: str, *rows: Values) -> None:
        """Execute a statement with the values of each row, to its end even if cancelled."""
        writing = asyncio.ensure_future(self._write(sql, rows))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await writing
            raise

    async def _write(self, sql: str, rows: tuple[Values, ...]) -> None:
        with translate_storage_errors(self._path):
            if len(rows) == 1:
                # Once to the connection's thread and back, not for its commit and its cursor again.
                await self._connection.execute_fetchall(sql, rows[0])
            elif rows:
                # Closed by SQLite's own thread: freed by this one, a cursor would reset a statement in use there.
                async with self._connection.executemany(sql, rows):
                    pass
