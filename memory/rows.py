"""How the ledger reaches its tables, whatever database they are in."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import aiosqlite

from gems.memory.faults import storage_error

Values = tuple[Any, ...]


class Rows(Protocol):
    """Statements in the words of SQLite, with `?` for each value; every write is a transaction."""

    async def all(self, sql: str, values: Values) -> Sequence[Any]:
        """The rows that are found, each by the names of its columns.

        Raises:
            StorageError: the database cannot be used.
        """
        ...

    async def write(self, sql: str, values: Values) -> None:
        """Carry out a statement and commit it.

        Raises:
            StorageError: the database cannot be used.
        """
        ...


class SqliteRows:
    """Tables in a SQLite file.

    Args:
        connection: Open, with the tables, and with rows that know their columns.
        path: For messages.
    """

    def __init__(self, connection: aiosqlite.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    async def all(self, sql: str, values: Values) -> Sequence[Any]:
        """See `Rows`."""
        try:
            async with self._connection.execute(sql, values) as cursor:
                return list(await cursor.fetchall())
        except sqlite3.Error as error:
            raise storage_error(error, self._path) from error

    async def write(self, sql: str, values: Values) -> None:
        """See `Rows`."""
        try:
            await self._connection.execute(sql, values)
            await self._connection.commit()
        except sqlite3.Error as error:
            raise storage_error(error, self._path) from error
