"""Lock of a home against servers of different versions: they would not understand each other's files and limits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from gems._version import __version__
from gems.errors import ConfigurationError
from gems.memory.sqlite import translate_storage_errors

FILE = "server.version"
_MOST_BYTES = 100


@contextmanager
def hold_home(home: Path, version: str = __version__) -> Iterator[None]:
    """Hold a home for servers of one version; any number of these may hold it. The system releases it with the process.

    Blocking for a moment. ConfigurationError if servers of another version hold it, StorageError if its file cannot be
    used. Without effect on Windows, which has no shared locks of files.
    """
    try:
        import fcntl  # noqa: PLC0415 - not on Windows
    except ImportError:
        yield
        return
    path = home / FILE
    with translate_storage_errors(path):
        home.mkdir(parents=True, exist_ok=True)
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    with file:
        with translate_storage_errors(path):
            if _try_lock(file, fcntl.LOCK_EX):
                file.truncate(0)
                file.write(version.encode())
                file.flush()
                # Another server may take its shared lock between the two, after which the version holds for both.
                fcntl.flock(file, fcntl.LOCK_SH)
            else:
                # A server that starts holds its exclusive lock for a moment.
                fcntl.flock(file, fcntl.LOCK_SH)
            file.seek(0)
            found = file.read(_MOST_BYTES).decode(errors="replace")
        if found != version:
            raise ConfigurationError(
                f"Servers of GEMS {found or '(unknown)'} use {home}; this is {version}.",
                hint="Stop them first, or set GEMS_HOME to another folder: versions must not share a home.",
            )
        yield


def _try_lock(file: IO[bytes], kind: int) -> bool:
    import fcntl  # noqa: PLC0415 - not on Windows

    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
