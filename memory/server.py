"""Connect to a PostgreSQL server, with retries while it is unreachable, and translate its errors."""

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

RETRY_S = 10.0
"""How long calls are retried while the server is unreachable."""
_CONNECT_S = 5
_POOL_WAIT_S = 2.0
_MOST_CONNECTIONS = 10
_DOWN_HINT = (
    "Check that the server is running and GEMS_CHECKPOINT is right, then continue with `gems resume`."
)
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


class Server:
    """A database on a PostgreSQL server.

    Args:
        url: May contain a password, so it is never shown.
        label: Host, port and database, for messages.
        pool: Connections to it.
    """

    def __init__(self, url: str, label: str, pool: Pool) -> None:
        self._url = url
        self.label = label
        self.pool = pool
        self._given_up = False

    async def connect(self) -> Connection:
        """Return a new connection outside of the pool."""
        return await _open_connection(self._url)

    async def with_retries(self, action: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Call `action`, possibly more than once, and retry for 10 seconds if the server is unreachable.

        After a failure, later calls try only once, until one succeeds.
        """

        async def call() -> ResultT:
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
        await (await _open_connection(url)).close()
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
            hint="Use postgresql://USER:PASSWORD@HOST:5432/DATABASE; write special characters in the "
            "password as %XX.",
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


async def _open_connection(url: str) -> Connection:
    return await psycopg.AsyncConnection.connect(url, **_KWARGS)


def _is_unreachable(error: BaseException) -> bool:
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
