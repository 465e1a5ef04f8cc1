"""One process at a time works on a run.

The files of finished runs stay: who waits for a lock may have opened its file before it is removed, and would
then hold a lock that nobody else sees.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from gems.errors import RunBusyError
from gems.memory.faults import storage_error

# A short patience, since `is_locked` holds the lock for a moment too.
_PATIENCE_S = 0.2
_POLL_S = 0.02


@contextmanager
def run_lock(folder: Path, run: str) -> Iterator[None]:
    """Hold the run's lock. The system lets go of it when the process ends, however it ends. Blocking.

    Raises:
        RunBusyError: another process, or another call in this one, holds it.
        StorageError: the lock file cannot be written.
    """
    lock = _acquired(folder, run, _PATIENCE_S)
    try:
        yield
    finally:
        lock.release()


@asynccontextmanager
async def hold(folder: Path, run: str) -> AsyncIterator[None]:
    """The same as `run_lock`, without keeping the event loop waiting.

    Raises:
        RunBusyError: another process, or another call in this one, holds it.
        StorageError: the lock file cannot be written.
    """
    lock = await _acquired_in_time(folder, run)
    try:
        yield
    finally:
        lock.release()


def is_locked(folder: Path, run: str) -> bool:
    """Whether somebody works on the run, or asks this, right now. Never waits."""
    if not _file(folder, run).exists():
        return False
    try:
        _acquired(folder, run, 0).release()
    except RunBusyError:
        return True
    return False


async def _acquired_in_time(folder: Path, run: str) -> BaseFileLock:
    for _ in range(round(_PATIENCE_S / _POLL_S)):
        try:
            return _acquired(folder, run, 0)
        except RunBusyError:
            await asyncio.sleep(_POLL_S)
    return _acquired(folder, run, 0)


def _acquired(folder: Path, run: str, patience_s: float) -> BaseFileLock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(_file(folder, run), thread_local=False)
        lock.acquire(timeout=patience_s, poll_interval=_POLL_S)
    except Timeout:
        raise RunBusyError(f"The run {run} is being worked on already.") from None
    except OSError as error:
        raise storage_error(error, folder) from error
    return lock


def _file(folder: Path, run: str) -> Path:
    return folder / f"{run}.lock"
