"""The checkpointer: the truth about a run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.serde.types import ERROR
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from gems.memory.ordering import go_on_behind
from gems.memory.serializing import checkpoint_serializer
from gems.memory.sqlite import open_database

CHECKPOINT_VERSION = 1
"""Raised when the state changes so that older checkpoints can no longer be resumed."""

_FORGET_RUN = (
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
    """What is kept of a task's writes: of one that was cancelled only the error and the like.

    LangGraph also hands on what a cancelled task wrote until then, takes it for finished on resuming, and
    ends the run where the write that leads to the next node is missing. Without them the task starts again,
    and finds in the ledger what it paid for.
    """
    if any(channel == ERROR for channel, _ in writes):
        return [write for write in writes if write[0] in WRITES_IDX_MAP]
    return writes


class CompactSqliteSaver(AsyncSqliteSaver):
    """The SQLite saver with short channel versions, which keeps nothing of a task that was cancelled.

    Every checkpoint holds the version of every channel. The library's have fifty characters, with a random
    part for savers that keep values by version; this one keeps them within the checkpoint, where a plain
    counter will do, and a round takes a quarter less space.
    """

    def get_next_version(self, current: str | None, channel: None) -> str:  # noqa: ARG002
        """The counter behind `current`; only the order of versions matters."""
        return f"{int((current or '0').split('.')[0]) + 1:06d}"

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Keep a task's writes; see `kept_writes`."""
        await super().aput_writes(config, kept_writes(writes), task_id, task_path)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that `config` names, or the newest of its thread; see `go_on_behind`."""
        return go_on_behind(await super().aget_tuple(config))

    async def alist(self, config: RunnableConfig | None, **wanted: Any) -> AsyncIterator[CheckpointTuple]:
        """The checkpoints of a thread, newest first; see `go_on_behind`."""
        async for found in super().alist(config, **wanted):
            go_on_behind(found)
            yield found

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Forget what runs of a server left on their threads, where a newer run takes their place."""
        async with self.lock, self.conn.cursor() as cursor:
            for statement in _FORGET_RUN:
                await cursor.executemany(statement, [(str(run),) for run in run_ids])
            await self.conn.commit()

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Give a thread everything that another one has."""
        async with self.lock, self.conn.cursor() as cursor:
            for statement in _COPY_THREAD:
                await cursor.execute(statement, {"source": source_thread_id, "target": target_thread_id})
            await self.conn.commit()


@asynccontextmanager
async def open_checkpointer(path: Path) -> AsyncIterator[BaseCheckpointSaver[str]]:
    """A checkpointer on the SQLite file at `path`.

    Raises:
        StoreVersionError: the file was written by a newer version, or by another program.
        CorruptStoreError: the file is damaged.
        StorageError: the file cannot be opened or written.
    """
    async with open_database(path, CHECKPOINT_VERSION) as connection:
        saver = CompactSqliteSaver(connection, serde=checkpoint_serializer())
        await saver.setup()
        yield saver
