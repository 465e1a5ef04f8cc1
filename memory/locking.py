"""The interface of run locks, and locks in files."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from gems.memory import locks


class RunLocks(ABC):
    """Locks that let one process at a time work on a run."""

    @abstractmethod
    def hold(self, run: str) -> AbstractAsyncContextManager[None]:
        """Hold the run's lock; it is released when the process ends in any way.

        Raises:
            RunBusyError: another process, or another call in this one, holds it.
            StorageError: locks cannot be acquired.
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
        """Delete the lock of a deleted run; return whether it is gone."""
        return False

    async def remove_held(self, run: str) -> None:  # noqa: B027 - nothing is left behind by default
        """Delete the lock of a deleted run; the caller holds it."""


class FileLocks(RunLocks):
    """Locks in files of a folder, for the processes of one machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def hold(self, run: str) -> AbstractAsyncContextManager[None]:
        return locks.hold_run_lock(self._folder, run)

    async def is_locked(self, run: str) -> bool:
        return await asyncio.to_thread(locks.is_run_locked, self._folder, run)

    async def is_busy(self, run: str) -> bool:
        return await asyncio.to_thread(locks.is_busy, self._folder, run)

    async def idle(self, listed: Collection[str]) -> list[str]:
        return await asyncio.to_thread(locks.idle_locks, self._folder, listed)

    async def remove(self, run: str) -> bool:
        return await asyncio.to_thread(locks.remove_lock, self._folder, run)

    async def remove_held(self, run: str) -> None:
        await asyncio.to_thread(locks.remove_lock_held, self._folder, run)
