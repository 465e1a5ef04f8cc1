"""Lock files of runs.

The files of finished runs stay: a process that waits for a lock may have opened its file before it is
deleted, and would then hold a lock that nobody else sees.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from gems.errors import RunBusyError
from gems.memory.faults import storage_error

# A short timeout, since `is_run_locked` holds the lock for a moment too.
_LOCK_TIMEOUT_S = 0.2
_LOCK_POLL_S = 0.02


@contextmanager
def run_lock(folder: Path, run: str) -> Iterator[None]:
    """Hold the run's lock, which the system releases when the process ends. Blocking.

    Raises RunBusyError if another process, or another call in this one, holds it.
    """
    lock = _acquire(folder, run, _LOCK_TIMEOUT_S)
    try:
        yield
    finally:
        lock.release()


@asynccontextmanager
async def hold_run_lock(folder: Path, run: str) -> AsyncIterator[None]:
    """Hold the run's lock as `run_lock` does, without blocking the event loop."""
    lock = await _acquire_async(folder, run)
    try:
        yield
    finally:
        lock.release()


def is_run_locked(folder: Path, run: str) -> bool:
    """Return whether somebody works on the run, or calls this, right now. Never waits."""
    if not _lock_path(folder, run).exists():
        return False
    try:
        _acquire(folder, run, 0).release()
    except RunBusyError:
        return True
    return False


async def _acquire_async(folder: Path, run: str) -> BaseFileLock:
    for _ in range(round(_LOCK_TIMEOUT_S / _LOCK_POLL_S)):
        try:
            return _acquire(folder, run, 0)
        except RunBusyError:
            await asyncio.sleep(_LOCK_POLL_S)
    return _acquire(folder, run, 0)


def _acquire(folder: Path, run: str, timeout_s: float) -> BaseFileLock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(_lock_path(folder, run), thread_local=False)
        lock.acquire(timeout=timeout_s, poll_interval=_LOCK_POLL_S)
    except Timeout:
        raise RunBusyError(f"The run {run} is already in progress.") from None
    except OSError as error:
        raise storage_error(error, folder) from error
    return lock


def _lock_path(folder: Path, run: str) -> Path:
    return folder / f"{run}.lock"
