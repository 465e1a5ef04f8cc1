"""Translate errors of the file system and of SQLite."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gems.errors import CorruptStoreError, DiskFullError, StorageError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_DAMAGED = ("malformed", "not a database", "disk image", "corrupt")
# SQLite's errors if there is no space for the files beside a database, the largest of which has 32 KiB.
_MAYBE_FULL = ("disk I/O error", "unable to open database file")
_ALMOST_NO_SPACE = 2**15
# Errors of decoders on overwritten bytes.
_UNDECODABLE = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    NotImplementedError,
    EOFError,
    RecursionError,
)
_MOVE_HINT = "Move it away to start with an empty one; images are stored separately and stay."


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Translate any error in the block, which reads the store at `path`.

    Raises CorruptStoreError if the file is damaged or cannot be decoded, else StorageError.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise storage_error(error, path) from error
    except _UNDECODABLE as error:
        message = f"{type(error).__name__}: {error}"
        raise CorruptStoreError(f"{path} cannot be decoded ({message}).", hint=_MOVE_HINT) from error


@contextmanager
def translate_storage_errors(path: Path) -> Iterator[None]:
    """Raise SQLite's errors about `path` as `StorageError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise storage_error(error, path) from error


def storage_error(error: Exception, path: Path) -> StorageError:
    """Return the `StorageError` for an `OSError` or `sqlite3.Error` about `path`."""
    if isinstance(error, StorageError):
        return error
    message = str(error)
    if _is_disk_full(error, path):
        return DiskFullError(f"{path} could not be written: no space is left on the disk.")
    if isinstance(error, sqlite3.Error) and any(mark in message for mark in _DAMAGED):
        return CorruptStoreError(f"{path} is damaged ({message}).", hint=_MOVE_HINT)
    return StorageError(f"{path} could not be used: {message}.")


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
