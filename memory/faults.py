"""Errors of the file system and of SQLite, in our words."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gems.errors import CorruptStoreError, DiskFullError, StorageError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_DAMAGED = ("malformed", "not a database", "disk image", "corrupt")


@contextmanager
def storage_faults(path: Path) -> Iterator[None]:
    """Raise what SQLite says about `path` as a `StorageError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise storage_error(error, path) from error


def storage_error(error: Exception, path: Path) -> StorageError:
    """The error for what `OSError` or `sqlite3.Error` says about `path`."""
    if isinstance(error, StorageError):
        return error
    said = str(error)
    if (isinstance(error, OSError) and error.errno in _FULL) or "disk is full" in said:
        return DiskFullError(f"{path} could not be written: no space is left on the disk.")
    if isinstance(error, sqlite3.Error) and any(mark in said for mark in _DAMAGED):
        return CorruptStoreError(
            f"{path} is damaged ({said}).",
            hint="Move it away to start with an empty one; images are kept apart and stay.",
        )
    return StorageError(f"{path} could not be used: {said}.")
