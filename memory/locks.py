"""One process at a time works on a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from gems.errors import RunBusyError
from gems.memory.faults import storage_error


@contextmanager
def run_lock(folder: Path, run: str) -> Iterator[None]:
    """Hold the run's lock. The operating system lets go of it when the process ends, however it ends.

    Raises:
        RunBusyError: another process, or another call in this one, holds it.
        StorageError: the lock file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{run}.lock", thread_local=False)
        # A short patience, since `is_locked` holds the lock for a moment too.
        lock.acquire(timeout=0.2, poll_interval=0.02)
    except Timeout:
        raise RunBusyError(f"The run {run} is being worked on already.") from None
    except OSError as error:
        raise storage_error(error, folder) from error
    try:
        yield
    finally:
        lock.release()


def is_locked(folder: Path, run: str) -> bool:
    """Whether somebody works on the run right now."""
    try:
        with run_lock(folder, run):
            return False
    except RunBusyError:
        return True
