"""Limits of connections: their number, and the time that a client may take to send a request."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from gems.apps.server.reason_phrases import PhrasedTransport

HEADERS_S = 10.0
"""Seconds from the first byte of a request, or from the connection, to the end of its headers."""
BODY_S = 60.0
"""Seconds between two parts of a body."""
_WANTED_FILES = 65_536
_LEAST = 8


class GuardedProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's HTTP protocol, which closes connections that send nothing, or too slowly.

    At most `most` connections are open: a further one replaces the one that has waited longest for the end of its
    headers, or is closed if there is none, so that half-sent requests cannot keep others out.
    """

    most: int = 1000
    headers_s: float = HEADERS_S
    body_s: float = BODY_S

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for headers, and make room if there are too many connections."""
        super().connection_made(PhrasedTransport(transport))
        self._timer: asyncio.TimerHandle | None = None
        self._waiting_since: float | None = None
        self._wait_for_headers()
        if len(self.connections) > self.most:
            waiting = [other for other in self.connections if getattr(other, "_waiting_since", None) is not None]
            oldest = min((other for other in waiting if other is not self), key=_since, default=self)
            # Now, since several connections are accepted before the loop calls `connection_lost`.
            self.connections.discard(oldest)
            oldest.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of the headers or of the body."""
        before = self.cycle
        is_idle = before is None or before.response_complete
        if is_idle and self._waiting_since is None:
            self._wait_for_headers()
        super().data_received(data)
        if is_idle and self.cycle is before:
            return
        self._waiting_since = None
        self._wait(self.body_s if self.cycle.more_body else None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._waiting_since = None
        self._wait(None)
        super().connection_lost(exc)

    def _wait_for_headers(self) -> None:
        self._waiting_since = time.monotonic()
        self._wait(self.headers_s)

    def _wait(self, seconds: float | None) -> None:
        """Close the connection after a time, unless this is called again; None to wait for ever."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        if self._waiting_since is None and self.flow.read_paused:
            # The server is slow here, not the client.
            self._wait(self.body_s)
        elif self._waiting_since is not None or self.cycle.more_body:
            self.transport.abort()


def _since(connection: Any) -> float:
    since: float = connection._waiting_since  # noqa: SLF001 - of the same class
    return since


def guarded_protocol() -> type[GuardedProtocol]:
    """Return the protocol with as many connections as the process's limit of open files allows.

    Raises the soft limit of open files as far as the system permits: a socket is a file, and a run that cannot open
    one loses what it has learned.
    """
    files = _raise_file_limit()
    # What is open now stays open, and a quarter is for the files of runs and requests to models.
    most = max(_LEAST, files - _count_open_files() - max(24, files // 4))
    return type("LimitedProtocol", (GuardedProtocol,), {"most": most})


def _raise_file_limit() -> int:
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return 2048
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return _WANTED_FILES if soft == resource.RLIM_INFINITY else soft


def _count_open_files() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        if os.path.isdir(folder):
            return len(os.listdir(folder))
    return 64
