"""Checkpointer on SQLite; serializer, migration and order of checkpoints."""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.base import id as checkpoint_ids
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import ERROR
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from gems.memory.sqlite import CORRUPT, open_database

_UUID_VERSION = 6
_ZLIB_PREFIX = "zlib+"
# Shorter values hardly shrink, and every tag takes five bytes more.
_MIN_COMPRESSED = 200
_MAX_UNPACKED = 256 * 2**20
CHECKPOINT_VERSION = 2
"""Raised when the state's keys change. Checkpoints of older versions are migrated when they are opened."""
# Version 2 renamed these keys of the state. The graphs of skills have keys of their own.
RENAMED_CHANNELS = {
    "heard": "prompt_digest",
    "drawing": "generation_overrides",
    "draw_prompt": "current_prompt",
    "thought": "judge_reasoning",
}
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


def advance_checkpoint_clock(found: CheckpointTuple | None) -> CheckpointTuple | None:
    """Return `found` unchanged, and make LangGraph give later checkpoints greater ids.

    The newest checkpoint of a thread is the one with the greatest id, and ids begin with the time. LangGraph
    keeps them increasing within a process. But if the clock was set back since another process or machine
    worked on the run, new checkpoints would sort before the old ones and be lost.
    """
    made = _checkpoint_time(found.checkpoint["id"]) if found is not None else None
    last = checkpoint_ids._last_v6_timestamp  # noqa: SLF001 - LangGraph has no other way
    if made is not None and made > (last or 0):
        checkpoint_ids._last_v6_timestamp = made  # type: ignore[assignment]  # noqa: SLF001
    return found


def _checkpoint_time(name: str) -> int | None:
    """Return a checkpoint id's time in 0.1 microseconds; None for ids that are not UUID version 6."""
    try:
        found = UUID(name)
    except ValueError:
        return None
    # The time's upper 48 bits, the version, and the time's lower 12 bits.
    return found.int >> 80 << 12 | found.int >> 64 & 0xFFF if found.version == _UUID_VERSION else None


class CompressingSerializer(SerializerProtocol):
    """Compress what another serializer writes; uncompressed values stay readable."""

    def __init__(self, inner: SerializerProtocol) -> None:
        self._inner = inner

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """Return the value's type and bytes; the type begins with `zlib+` if they are compressed."""
        # LangGraph stores what a node raised. Such a value may not be instantiated again, and would be warned about.
        plain = f"{type(obj).__name__}: {obj}" if isinstance(obj, BaseException) else obj
        kind, data = self._inner.dumps_typed(plain)
        if len(data) < _MIN_COMPRESSED:
            return kind, data
        packed = zlib.compress(data, 6)
        return (_ZLIB_PREFIX + kind, packed) if len(packed) < len(data) else (kind, data)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Return the value; ValueError if the bytes were changed or exceed 256 MiB."""
        kind, packed = data
        if not kind.startswith(_ZLIB_PREFIX):
            return self._inner.loads_typed(data)
        unpacking = zlib.decompressobj()
        try:
            # A manipulated database must not be able to exhaust memory.
            plain = unpacking.decompress(packed, _MAX_UNPACKED)
        except zlib.error as error:
            raise ValueError(f"It cannot be decompressed: {error}.") from error
        if not unpacking.eof:
            raise ValueError("It is truncated or expands to too much data.")
        return self._inner.loads_typed((kind.removeprefix(_ZLIB_PREFIX), plain))


def checkpoint_serializer() -> SerializerProtocol:
    """Return the serializer of all checkpointers."""
    # JSON-native values and LangGraph's own types only: a manipulated database cannot instantiate others.
    return CompressingSerializer(JsonPlusSerializer(allowed_msgpack_modules=[]))


def rename_channels(checkpoint: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Rename the channels of a checkpoint of version 1 in place."""
    seen = checkpoint.get("versions_seen", {}).values()
    counters = metadata.get("counters_since_delta_snapshot", {})
    for names in (checkpoint["channel_values"], checkpoint["channel_versions"], counters, *seen):
        for old in RENAMED_CHANNELS.keys() & names.keys():
            names[RENAMED_CHANNELS[old]] = names.pop(old)
    if updated := checkpoint.get("updated_channels"):
        checkpoint["updated_channels"] = sorted(RENAMED_CHANNELS.get(name, name) for name in updated)


async def _migrate(connection: aiosqlite.Connection) -> None:
    serializer = checkpoint_serializer()
    found = await connection.execute_fetchall("SELECT rowid FROM checkpoints WHERE checkpoint_ns = ''")
    for (row,) in found:
        select = "SELECT type, checkpoint, metadata FROM checkpoints WHERE rowid = ?"
        ((kind, data, text),) = await connection.execute_fetchall(select, (row,))
        try:
            checkpoint, metadata = serializer.loads_typed((kind, data)), json.loads(text)
            rename_channels(checkpoint, metadata)
        except CORRUPT:
            # A damaged checkpoint is reported when its run is read; the others need not suffer.
            continue
        kept = (*serializer.dumps_typed(checkpoint), json.dumps(metadata, ensure_ascii=False).encode(), row)
        await connection.execute("UPDATE checkpoints SET type = ?, checkpoint = ?, metadata = ? WHERE rowid = ?", kept)
    await connection.executemany(
        "UPDATE writes SET channel = ? WHERE channel = ? AND checkpoint_ns = ''",
        [(new, old) for old, new in RENAMED_CHANNELS.items()],
    )


def kept_writes(writes: Sequence[tuple[str, Any]]) -> Sequence[tuple[str, Any]]:
    """Return the writes of a task to keep; of a cancelled task, only the error and the like.

    LangGraph would take a cancelled task with other writes for finished on resuming, and end the run because
    the write that leads to the next node is missing.
    """
    if any(channel == ERROR for channel, _ in writes):
        return [write for write in writes if write[0] in WRITES_IDX_MAP]
    return writes


class CompactSqliteSaver(AsyncSqliteSaver):
    """SQLite saver with short channel versions, which drops the writes of cancelled tasks.

    Every checkpoint holds the version of every channel, of fifty characters in the library. A counter is
    enough where values are stored within the checkpoint, and a round takes a quarter less space.
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
    async with open_database(path, CHECKPOINT_VERSION, migrate=_migrate, autocommit=False) as connection:
        saver = CompactSqliteSaver(connection, serde=checkpoint_serializer())
        await saver.setup()
        try:
            yield saver
        finally:
            # LangGraph does not wait for the last writes of a cancelled run. A connection that is closed between
            # a write and its commit keeps the file locked until Python frees the statement.
            async with saver.lock:
                pass
