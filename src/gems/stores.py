"""Ledger, checkpointer and locks: in files of the home, or in a database that machines share."""

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
    """What knows of runs.

    Attributes:
        ledger: What was paid for, and the index of runs.
        checkpointer: The truth about a run.
        locks: One process at a time works on a run.
        label: Where they are, for people.
    """

    ledger: Ledger
    checkpointer: BaseCheckpointSaver[str]
    locks: RunLocks
    label: str


@asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[Stores]:
    """The stores that the settings describe.

    Raises:
        ConfigurationError: the database is not named rightly, or what it needs is not installed.
        StorageError: a store cannot be opened.
    """
    opening = _in_files(settings) if settings.checkpoint is None else _on_server(settings)
    async with opening as stores:
        yield stores


@asynccontextmanager
async def _in_files(settings: Settings) -> AsyncIterator[Stores]:
    async with (
        open_ledger(settings.ledger_path) as ledger,
        open_checkpointer(settings.checkpoints_path) as checkpointer,
    ):
        locks = FileLocks(settings.locks_path)
        yield Stores(ledger=ledger, checkpointer=checkpointer, locks=locks, label=str(settings.home))


@asynccontextmanager
async def _on_server(settings: Settings) -> AsyncIterator[Stores]:
    """Stores in PostgreSQL, with a file beside them for what is paid for while the server is away."""
    try:
        # Only whoever uses PostgreSQL needs its packages.
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
