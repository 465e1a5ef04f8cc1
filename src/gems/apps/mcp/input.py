"""Standard input, read so that a signal can stop the server while it waits."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

_CHUNK = 65_536


async def standard_input() -> AsyncIterator[str]:
    """Yield the lines of standard input until it is closed.

    A daemon thread reads them: a read cannot be interrupted, and threads of the event loop's executor would
    keep the process alive until the next line. Child processes get an empty standard input.
    """
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    source = _take_descriptor(sys.stdin.fileno())

    def read() -> None:
        # The loop may be closed already.
        with suppress(RuntimeError, OSError):
            for line in _read_lines(source):
                loop.call_soon_threadsafe(lines.put_nowait, line)
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while (line := await lines.get()) is not None:
        yield line


def _take_descriptor(descriptor: int) -> int:
    """Duplicate a descriptor, and redirect the original to /dev/null."""
    own = os.dup(descriptor)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)
    return own


def _read_lines(source: int) -> Iterator[str]:
    # Not a file object, whose lock would block the interpreter's shutdown.
    parts: list[bytes] = []
    while chunk := os.read(source, _CHUNK):
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            yield b"".join([*parts, line]).decode(errors="replace")
            parts = []
        parts.append(rest)
    if any(parts):
        yield b"".join(parts).decode(errors="replace")
