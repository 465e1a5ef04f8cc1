"""The locks of runs behind one interface: files for one machine, a server for many."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from gems.memory import clearing, locks


class RunLocks(ABC):
    """One process at a time works on a run."""

    @abstractmethod
    def hold(self, run: str) -> AbstractAsyncContextManager[None]:
        """Hold the run's lock, which is let go of when the process ends, however it ends.

        Raises:
            RunBusyError: another process, or another call in this one, holds it.
            StorageError: locks cannot be taken.
        """

    @abstractmethod
    async def is_locked(self, run: str) -> bool:
        """Whether somebody works on the run right now."""

    async def locked(self, runs: Iterable[str]) -> frozenset[str]:
        """Those of the runs that somebody works on."""
        return frozenset([run for run in runs if await self.is_locked(run)])

    async def is_busy(self, run: str) -> bool:
        """The same as `is_locked`, not to be taken in by others who only ask."""
        return await self.is_locked(run)

    async def idle(self, listed: Collection[str]) -> list[str]:  # noqa: ARG002 - for files only
        """Runs that are not listed, are not being worked on, and have left a lock behind."""
        return []

    async def remove(self, run: str) -> bool:  # noqa: ARG002
        """Remove what the lock of a run that is gone left behind; whether it is gone."""
        return False

    async def remove_held(self, run: str) -> None:  # noqa: B027 - nothing is left behind by default
        """The same, by whoever holds it."""


class FileLocks(RunLocks):
    """Locks in files of a folder, for the processes of one machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def hold(self, run: str) -> AbstractAsyncContextManager[None]:
        """See `RunLocks`."""
        return locks.hold(self._folder, run)

    async def is_locked(self, run: str) -> bool:
        """See `RunLocks`."""
        return await asyncio.to_thread(locks.is_locked, self._folder, run)

    async def is_busy(self, run: str) -> bool:
        """See `RunLocks`."""
        return await asyncio.to_thread(clearing.is_busy, self._folder, run)

    async def idle(self, listed: Collection[str]) -> list[str]:
        """See `RunLocks`."""
        return await asyncio.to_thread(clearing.idle_locks, self._folder, listed)

    async def remove(self, run: str) -> bool:
        """See `RunLocks`."""
        return await asyncio.to_thread(clearing.remove_lock, self._folder, run)

    async def remove_held(self, run: str) -> None:
        """See `RunLocks`."""
        await asyncio.to_thread(clearing.remove_lock_held, self._folder, run)
