"""The checkpointer: the truth about a run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from gems.memory.database import open_database

CHECKPOINT_VERSION = 1
"""Raised when the state changes so that older checkpoints can no longer be resumed."""


@asynccontextmanager
async def open_checkpointer(path: Path) -> AsyncIterator[BaseCheckpointSaver[str]]:
    """A checkpointer on the SQLite file at `path`.

    Only JSON-native values and LangGraph's own types are ever read back: a changed database can make no
    class of ours or anybody's come to life.

    Raises:
        StoreVersionError: the file was written by a newer version, or by another program.
        CorruptStoreError: the file is damaged.
        StorageError: the file cannot be opened or written.
    """
    async with open_database(path, CHECKPOINT_VERSION) as connection:
        saver = AsyncSqliteSaver(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=[]))
        await saver.setup()
        yield saver
