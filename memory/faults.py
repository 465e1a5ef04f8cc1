"""Errors of the file system and of SQLite, in our words."""

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
# What SQLite says where it finds no room for the files beside a database, the greatest of which has 32 KiB.
_PERHAPS_FULL = ("disk I/O error", "unable to open database file")
_NEXT_TO_NOTHING = 2**15
# What decoders say about bytes that others wrote over.
_UNDECODABLE = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    NotImplementedError,
    EOFError,
    RecursionError,
)
_HINT = "Move it away to start with an empty one; images are kept apart and stay."


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever goes wrong inside, where the store at `path` is read, is an error of the store.

    Raises:
        CorruptStoreError: the file is damaged, or what it holds cannot be decoded.
        StorageError: it cannot be read.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise storage_error(error, path) from error
    except _UNDECODABLE as error:
        said = f"{type(error).__name__}: {error}"
        raise CorruptStoreError(f"{path} holds what cannot be read ({said}).", hint=_HINT) from error


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
    if _means_full(error, path):
        return DiskFullError(f"{path} could not be written: no space is left on the disk.")
    if isinstance(error, sqlite3.Error) and any(mark in said for mark in _DAMAGED):
        return CorruptStoreError(f"{path} is damaged ({said}).", hint=_HINT)
    return StorageError(f"{path} could not be used: {said}.")


def _means_full(error: Exception, path: Path) -> bool:
    said = str(error)
    if (isinstance(error, OSError) and error.errno in _FULL) or "disk is full" in said:
        return True
    if not isinstance(error, sqlite3.Error) or not any(mark in said for mark in _PERHAPS_FULL):
        return False
    try:
        return shutil.disk_usage(path.parent).free < _NEXT_TO_NOTHING
    except OSError:
        # Nothing is known about the disk, so its error stands as it is.
        return False
