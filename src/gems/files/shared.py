"""Small files that several processes read and change: atomic writes, and a lock from reading to writing."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK_WAIT_S = 30.0
"""Seconds that a change waits for those of other processes; one takes milliseconds."""


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """Hold the lock of a file, so that what was read is still true when it is written. Blocking.

    The system releases the lock when its process ends. Raises OSError if the lock cannot be acquired.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.with_name(f".{path.name}.lock")
    try:
        with FileLock(place, thread_local=False, timeout=LOCK_WAIT_S):
            try:
                yield
            finally:
                # Windows cannot delete an open file, but filelock deletes it there; who waits takes a new one.
                if os.name != "nt":
                    place.unlink(missing_ok=True)
    except Timeout:
        raise OSError(f"another process has held its lock for {LOCK_WAIT_S:g} s") from None


def write_atomically(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file atomically and sync it to disk; an OSError leaves an earlier file unchanged.

    The new file has the permissions of the umask; if `private`, only its owner may read it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".new-{secrets.token_hex(8)}")
    # Not by `tempfile`, whose files only their owner may read, whatever the umask is.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    handle = os.open(scratch, flags, 0o600 if private else 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
