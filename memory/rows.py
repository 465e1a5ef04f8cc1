"""Access to the ledger's tables in any database."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import aiosqlite

from gems.memory.faults import storage_error

Values = tuple[Any, ...]


class Rows(Protocol):
    """Statements in SQLite's dialect, with `?` for each value; every write is a transaction."""

    async def all(self, sql: str, values: Values) -> Sequence[Any]:
        """Return the matching rows, each by column names.

        Raises:
            StorageError: the database cannot be used.
        """
        ...

    async def write(self, sql: str, values: Values) -> None:
        """Execute a statement and commit it.

        Raises:
            StorageError: the database cannot be used.
        """
        ...


class SqliteRows:
    """Tables in a SQLite file.

    Args:
        connection: Open, with the tables, and with a row factory that provides column names.
        path: For messages.
    """

    def __init__(self, connection: aiosqlite.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    async def all(self, sql: str, values: Values) -> Sequence[Any]:
        try:
            async with self._connection.execute(sql, values) as cursor:
                return list(await cursor.fetchall())
        except sqlite3.Error as error:
            raise storage_error(error, self._path) from error

    async def write(self, sql: str, values: Values) -> None:
        try:
            await self._connection.execute(sql, values)
            await self._connection.commit()
        except sqlite3.Error as error:
            raise storage_error(error, self._path) from error
