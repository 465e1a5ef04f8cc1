"""A PostgreSQL server: opened, waited for where it is away for a moment, and its errors in our words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_exponential

from gems.errors import ConfigurationError, GemsError, StorageError

PATIENCE_S = 10.0
"""How long a server that is away is waited for before a run stops."""
_CONNECT_S = 5
_POOL_WAIT_S = 2.0
_MOST_CONNECTIONS = 10
_DOWN_HINT = "Is the server running, and is GEMS_CHECKPOINT right? Then `gems resume` goes on with the run."
_KWARGS: dict[str, Any] = {
    "autocommit": True,
    "prepare_threshold": 0,
    "row_factory": dict_row,
    "connect_timeout": _CONNECT_S,
}
# What servers say who were reached and refuse: their codes rarely come along while connecting.
_REFUSALS = ("authentication failed", "no password supplied", "does not exist", "no pg_hba.conf entry")

Connection = psycopg.AsyncConnection[DictRow]
Pool = AsyncConnectionPool[Connection]
FoundT = TypeVar("FoundT")


class Server:
    """A database on a server.

    Args:
        url: Where it is; may hold a password, so it is never shown.
        label: Host, port and database, for messages.
        pool: Connections to it.
    """

    def __init__(self, url: str, label: str, pool: Pool) -> None:
        self._url = url
        self.label = label
        self.pool = pool
        self._given_up = False

    async def connect(self) -> Connection:
        """A connection of one's own, outside of the pool."""
        return await _connected(self._url)

    async def patiently(self, doing: Callable[[], Awaitable[FoundT]]) -> FoundT:
        """What `doing` comes to, tried again for a bounded time where the server is away.

        Once that was in vain, later calls try once, until one succeeds.

        Args:
            doing: May be carried out more than once.

        Raises:
            StorageError: the server is away or refuses.
        """

        async def once() -> FoundT:
            return await doing()

        trying = AsyncRetrying(
            retry=retry_if_exception(_is_away),
            stop=stop_after_delay(0 if self._given_up else PATIENCE_S),
            wait=wait_exponential(multiplier=0.1, max=1),
            reraise=True,
        )
        try:
            found: FoundT = await trying(once)
        except psycopg.Error as error:
            self._given_up = self._given_up or _is_away(error)
            raise server_error(error, self.label) from error
        self._given_up = False
        return found


@asynccontextmanager
async def open_server(url: str) -> AsyncIterator[Server]:
    """The server that `url` names, once it was reached.

    Raises:
        ConfigurationError: the URL is not understood, or the server refuses the user or the database.
        StorageError: nobody answers.
    """
    label = label_of(url)
    try:
        # The pool would only say that it took too long.
        await (await _connected(url)).close()
    except psycopg.Error as error:
        raise server_error(error, label, connecting=True) from error
    pool: Pool = AsyncConnectionPool(
        url,
        kwargs=_KWARGS,
        min_size=1,
        max_size=_MOST_CONNECTIONS,
        timeout=_POOL_WAIT_S,
        reconnect_timeout=PATIENCE_S,
        check=AsyncConnectionPool.check_connection,
        open=False,
    )
    async with pool:
        yield Server(url, label, pool)


def label_of(url: str) -> str:
    """Host, port and database of a URL, without user and password.

    Raises:
        ConfigurationError: the URL is not understood; it is not repeated.
    """
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        # The library's message may quote parts of the password.
        raise ConfigurationError(
            "GEMS_CHECKPOINT is no URL that PostgreSQL understands.",
            hint="It looks like postgresql://USER:PASSWORD@HOST:5432/DATABASE; other signs than letters and "
            "digits in the password are written as %XX.",
        ) from None
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    return f"{host}:{parts.get('port') or 5432}/{parts.get('dbname') or parts.get('user') or ''}"


def server_error(error: psycopg.Error, label: str, *, connecting: bool = False) -> GemsError:
    """The error for what PostgreSQL or its client says about the database that `label` names."""
    said = " ".join(str(error).split())
    if connecting and any(mark in said for mark in _REFUSALS):
        return ConfigurationError(
            f"PostgreSQL at {label} refuses: {said}.",
            hint="Check user, password and database in GEMS_CHECKPOINT; `createdb` makes a database.",
        )
    if connecting or _is_away(error):
        return StorageError(f"PostgreSQL at {label} cannot be reached: {said}.", hint=_DOWN_HINT)
    return StorageError(f"PostgreSQL at {label} refuses: {said}.", hint="See the server's log.")


async def _connected(url: str) -> Connection:
    return await psycopg.AsyncConnection.connect(url, **_KWARGS)


def _is_away(error: BaseException) -> bool:
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
