"""Locks of runs: the interface, and lock files."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from gems.errors import RunBusyError
from gems.memory.file_store import remove_file
from gems.memory.sqlite import storage_error

# A short timeout, since `is_run_locked` holds the lock for a moment too.
_LOCK_TIMEOUT_S = 0.2
_LOCK_POLL_S = 0.02


@contextmanager
def run_lock(folder: Path, run: str, timeout_s: float = _LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold the run's lock, which the system releases when the process ends. Blocking.

    Raises RunBusyError if another process, or another call in this one, holds it.
    """
    lock = _acquire(folder, run, timeout_s)
    try:
        yield
    finally:
        lock.release()


@asynccontextmanager
async def hold_run_lock(folder: Path, run: str) -> AsyncIterator[None]:
    """Hold the run's lock as `run_lock` does, without blocking the event loop."""
    for left in range(round(_LOCK_TIMEOUT_S / _LOCK_POLL_S), -1, -1):
        try:
            lock = _acquire(folder, run, 0)
            break
        except RunBusyError:
            if not left:
                raise
        await asyncio.sleep(_LOCK_POLL_S)
    try:
        yield
    finally:
        lock.release()


def is_run_locked(folder: Path, run: str, timeout_s: float = 0) -> bool:
    """Return whether somebody works on the run; without a timeout, or calls this right now.

    A missing lock file is not created.
    """
    if not (folder / f"{run}.lock").exists():
        return False
    try:
        with run_lock(folder, run, timeout_s):
            return False
    except RunBusyError:
        return True


def _acquire(folder: Path, run: str, timeout_s: float) -> BaseFileLock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{run}.lock", thread_local=False)
        lock.acquire(timeout=timeout_s, poll_interval=_LOCK_POLL_S)
    except Timeout:
        raise busy_error(run) from None
    except OSError as error:
        raise storage_error(error, folder) from error
    return lock


def busy_error(run: str) -> RunBusyError:
    """Return the error for a run that somebody works on."""
    return RunBusyError(f"The run {run} is already in progress.")


class RunLocks(ABC):
    """Locks that let one process at a time work on a run."""

    @abstractmethod
    def hold(self, run: str) -> AbstractAsyncContextManager[None]:
        """Hold the run's lock; it is released when the process ends in any way.

        Raises RunBusyError if another process, or another call in this one, holds it; StorageError if locks
        cannot be acquired.
        """

    @abstractmethod
    async def is_locked(self, run: str) -> bool:
        """Return whether somebody works on the run."""

    async def locked(self, runs: Iterable[str]) -> frozenset[str]:
        """Return those of the runs that somebody works on."""
        return frozenset([run for run in runs if await self.is_locked(run)])

    async def is_busy(self, run: str) -> bool:
        """Return the same as `is_locked`, without being disturbed by other callers of it."""
        return await self.is_locked(run)

    async def idle(self, listed: Collection[str]) -> list[str]:  # noqa: ARG002 - for files only
        """Return the runs that are not listed, are not being worked on, and have left a lock."""
        return []

    async def remove(self, run: str) -> bool:  # noqa: ARG002
        """Delete the lock of a deleted run unless somebody holds it; return whether it is gone."""
        return False

    async def remove_held(self, run: str) -> None:  # noqa: B027 - nothing is left behind by default
        """Delete the lock of a deleted run; the caller holds it."""


class FileLocks(RunLocks):
    """Locks in files of a folder, for the processes of one machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def hold(self, run: str) -> AbstractAsyncContextManager[None]:
        return hold_run_lock(self._folder, run)

    async def is_locked(self, run: str) -> bool:
        return await asyncio.to_thread(is_run_locked, self._folder, run)

    async def is_busy(self, run: str) -> bool:
        return await asyncio.to_thread(is_run_locked, self._folder, run, _LOCK_TIMEOUT_S)

    async def idle(self, listed: Collection[str]) -> list[str]:
        names = [path.stem for path in await asyncio.to_thread(lambda: list(self._folder.glob("*.lock")))]
        return [name for name in names if name not in listed and not await self.is_busy(name)]

    async def remove(self, run: str) -> bool:
        try:
            async with self.hold(run):
                return await asyncio.to_thread(self._remove_file, run)
        except RunBusyError:
            return False

    async def remove_held(self, run: str) -> None:
        await asyncio.to_thread(self._remove_file, run)

    def _remove_file(self, run: str) -> bool:
        # Windows cannot delete an open file, but filelock deletes it on release.
        return os.name == "nt" or remove_file(self._folder / f"{run}.lock")
