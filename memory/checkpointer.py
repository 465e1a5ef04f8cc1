"""The SQLite checkpointer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.serde.types import ERROR
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from gems.memory.ordering import advance_checkpoint_clock
from gems.memory.serializing import checkpoint_serializer
from gems.memory.sqlite import open_database

CHECKPOINT_VERSION = 1
"""Raised when the state changes so that older checkpoints can no longer be resumed."""

_DELETE_RUN = (
    "DELETE FROM writes WHERE (thread_id, checkpoint_ns, checkpoint_id) IN (SELECT thread_id, checkpoint_ns,"
    " checkpoint_id FROM checkpoints WHERE json_extract(metadata, '$.run_id') = ?)",
    "DELETE FROM checkpoints WHERE json_extract(metadata, '$.run_id') = ?",
)
_COPY_THREAD = (
    "INSERT OR REPLACE INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type,"
    " checkpoint, metadata) SELECT :target, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type,"
    " checkpoint, CASE WHEN json_extract(metadata, '$.thread_id') IS NULL THEN metadata"
    " ELSE CAST(json_set(metadata, '$.thread_id', :target) AS BLOB) END"
    " FROM checkpoints WHERE thread_id = :source",
    "INSERT OR REPLACE INTO writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx,"
    " channel, type, value) SELECT :target, checkpoint_ns, checkpoint_id, task_id, task_path, idx,"
    " channel, type, value FROM writes WHERE thread_id = :source",
)


def kept_writes(writes: Sequence[tuple[str, Any]]) -> Sequence[tuple[str, Any]]:
    """Return the writes of a task to keep; of a cancelled task, only the error and the like.

    LangGraph also passes on what a cancelled task wrote before, takes it for finished on resuming, and ends
    the run because the write that leads to the next node is missing. Without these writes the task starts
    again, and the ledger returns what it already paid for.
    """
    if any(channel == ERROR for channel, _ in writes):
        return [write for write in writes if write[0] in WRITES_IDX_MAP]
    return writes


class CompactSqliteSaver(AsyncSqliteSaver):
    """SQLite saver with short channel versions, which drops the writes of cancelled tasks.

    Every checkpoint holds the version of every channel. The library's versions have fifty characters, with a
    random part for savers that store values by version. This saver stores values within the checkpoint, so a
    plain counter is enough and a round takes a quarter less space.
    """

    def get_next_version(self, current: str | None, channel: None) -> str:  # noqa: ARG002
        """Return the next counter value; only the order of versions matters."""
        return f"{int((current or '0').split('.')[0]) + 1:06d}"

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        await super().aput_writes(config, kept_writes(writes), task_id, task_path)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return advance_checkpoint_clock(await super().aget_tuple(config))

    async def alist(self, config: RunnableConfig | None, **options: Any) -> AsyncIterator[CheckpointTuple]:
        async for found in super().alist(config, **options):
            advance_checkpoint_clock(found)
            yield found

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of runs on threads that a newer run of the server uses."""
        async with self.lock, self.conn.cursor() as cursor:
            for statement in _DELETE_RUN:
                await cursor.executemany(statement, [(str(run),) for run in run_ids])
            await self.conn.commit()

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints of a thread to another one."""
        async with self.lock, self.conn.cursor() as cursor:
            for statement in _COPY_THREAD:
                await cursor.execute(statement, {"source": source_thread_id, "target": target_thread_id})
            await self.conn.commit()


@asynccontextmanager
async def open_checkpointer(path: Path) -> AsyncIterator[BaseCheckpointSaver[str]]:
    """Open the checkpointer in the SQLite file at `path`; errors as in `open_database`."""
    async with open_database(path, CHECKPOINT_VERSION) as connection:
        saver = CompactSqliteSaver(connection, serde=checkpoint_serializer())
        await saver.setup()
        yield saver
