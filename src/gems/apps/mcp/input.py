"""Standard input, read so that a signal can end the server while nothing comes."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

_CHUNK = 65_536


async def standard_input() -> AsyncIterator[str]:
    """The lines of standard input, until it is closed.

    They are read by a thread that nobody waits for: a read cannot be interrupted, and the event loop's own
    threads would keep the process until the next line. What this process starts finds nothing to read.
    """
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    source = _taken(sys.stdin.fileno())

    def read() -> None:
        # The loop may be closed already.
        with suppress(RuntimeError, OSError):
            for line in _lines(source):
                loop.call_soon_threadsafe(lines.put_nowait, line)
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while (line := await lines.get()) is not None:
        yield line


def _taken(descriptor: int) -> int:
    """A descriptor of our own in place of one that now reads nothing."""
    own = os.dup(descriptor)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)
    return own


def _lines(source: int) -> Iterator[str]:
    # Not a file object, whose lock would be missed at the end of the process.
    parts: list[bytes] = []
    while chunk := os.read(source, _CHUNK):
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            yield b"".join([*parts, line]).decode(errors="replace")
            parts = []
        parts.append(rest)
    if any(parts):
        yield b"".join(parts).decode(errors="replace")
