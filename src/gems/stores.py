"""Open ledger, checkpointer and locks: in files of the home, or in a shared database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from langgraph.checkpoint.base import BaseCheckpointSaver

from gems.errors import MissingExtraError
from gems.memory.checkpointer import open_checkpointer
from gems.memory.ledger import LEDGER_SCHEMA, LEDGER_VERSION, Ledger, open_ledger
from gems.memory.locking import FileLocks, RunLocks
from gems.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The stores of runs.

    Attributes:
        ledger: Paid results, and the index of runs.
        checkpointer: Checkpoints of runs.
        locks: Locks of runs.
        label: Their location, for messages.
    """

    ledger: Ledger
    checkpointer: BaseCheckpointSaver[str]
    locks: RunLocks
    label: str


@asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[Stores]:
    """Open the stores that the settings describe."""
    opening = _open_file_stores(settings) if settings.checkpoint is None else _open_server_stores(settings)
    async with opening as stores:
        yield stores


@asynccontextmanager
async def _open_file_stores(settings: Settings) -> AsyncIterator[Stores]:
    async with (
        open_ledger(settings.ledger_path) as ledger,
        open_checkpointer(settings.checkpoints_path) as checkpointer,
    ):
        locks = FileLocks(settings.locks_path)
        yield Stores(ledger=ledger, checkpointer=checkpointer, locks=locks, label=str(settings.home))


@asynccontextmanager
async def _open_server_stores(settings: Settings) -> AsyncIterator[Stores]:
    """Open stores in PostgreSQL, with a local file for paid results while the server is unreachable."""
    try:
        # Only PostgreSQL users need its packages.
        from gems.memory import postgres  # noqa: PLC0415
        from gems.memory.server import open_server  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("GEMS_CHECKPOINT", "postgres") from error
    assert settings.checkpoint is not None  # noqa: S101 - for the type checker
    async with (
        open_ledger(settings.unsent_path) as unsent,
        open_server(settings.checkpoint.get_secret_value()) as server,
    ):
        rows, checkpointer = await postgres.open_tables(server, LEDGER_VERSION, LEDGER_SCHEMA)
        ledger = Ledger(rows, unsent)
        await ledger.catch_up()
        async with postgres.open_locks(server) as locks:
            yield Stores(ledger=ledger, checkpointer=checkpointer, locks=locks, label=server.label)
