"""Lock files of runs.

The files of finished runs stay: a process that waits for a lock may have opened its file before it is
deleted, and would then hold a lock that nobody else sees.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from gems.errors import RunBusyError
from gems.memory.file_store import remove_file
from gems.memory.sqlite import storage_error

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


def idle_locks(folder: Path, listed: Collection[str]) -> list[str]:
    """Return the runs that are not listed, are not being worked on, and have a lock file."""
    names = [path.stem for path in folder.glob("*.lock")] if folder.is_dir() else []
    return [name for name in names if name not in listed and not is_busy(folder, name)]


def remove_lock(folder: Path, run: str) -> bool:
    """Delete the lock file of a deleted run unless somebody holds it; return whether it is gone."""
    try:
        with run_lock(folder, run):
            return remove_lock_held(folder, run)
    except RunBusyError:
        return False


def remove_lock_held(folder: Path, run: str) -> bool:
    """Delete the lock file of a deleted run; the caller holds the lock."""
    # Windows cannot delete an open file, but filelock deletes it on release.
    return os.name == "nt" or remove_file(folder / f"{run}.lock")


def is_busy(folder: Path, run: str) -> bool:
    """Return whether somebody works on the run. Unlike `is_run_locked` it never creates a lock file."""
    if not (folder / f"{run}.lock").exists():
        return False
    try:
        with run_lock(folder, run):
            return False
    except RunBusyError:
        return True
