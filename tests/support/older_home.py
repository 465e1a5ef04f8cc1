"""Take checkpoints back to version 1, which named some keys of the state differently."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from gems.memory.checkpointer import checkpoint_serializer

OLD_NAMES = {
    "prompt_digest": "heard",
    "generation_overrides": "drawing",
    "current_prompt": "draw_prompt",
    "judge_reasoning": "thought",
}


def renamed(value: Any) -> Any:
    """Give old names to all keys and channels; no other text is equal to a new name."""
    if isinstance(value, dict):
        return {OLD_NAMES.get(name, name): renamed(inner) for name, inner in value.items()}
    if type(value) is list:
        return [renamed(inner) for inner in value]
    return OLD_NAMES.get(value, value) if isinstance(value, str) else value


def downgrade(home: Path, url: str | None) -> None:
    """Rewrite the checkpoints of a home or database as version 1 wrote them."""
    if url is None:
        _downgrade_file(home / "checkpoints.sqlite3")
    else:
        _downgrade_server(url)


def _downgrade_file(path: Path) -> None:
    serializer = checkpoint_serializer()
    with contextlib.closing(sqlite3.connect(path)) as raw, raw:
        for row, kind, data, metadata in raw.execute(
            "SELECT rowid, type, checkpoint, metadata FROM checkpoints"
        ).fetchall():
            old = serializer.dumps_typed(renamed(serializer.loads_typed((kind, data))))
            values = (*old, json.dumps(renamed(json.loads(metadata))).encode(), row)
            raw.execute("UPDATE checkpoints SET type=?, checkpoint=?, metadata=? WHERE rowid=?", values)
        for new, old_name in OLD_NAMES.items():
            raw.execute("UPDATE writes SET channel=? WHERE channel=?", (old_name, new))
        raw.execute("PRAGMA user_version=1")


def _downgrade_server(url: str) -> None:
    with psycopg.connect(url) as connection:
        for thread, name, checkpoint, metadata in connection.execute(
            "SELECT thread_id, checkpoint_id, checkpoint, metadata FROM checkpoints"
        ).fetchall():
            connection.execute(
                "UPDATE checkpoints SET checkpoint=%s, metadata=%s WHERE thread_id=%s AND checkpoint_id=%s",
                (Jsonb(renamed(checkpoint)), Jsonb(renamed(metadata)), thread, name),
            )
        for new, old_name in OLD_NAMES.items():
            connection.execute("UPDATE checkpoint_blobs SET channel=%s WHERE channel=%s", (old_name, new))
            connection.execute("UPDATE checkpoint_writes SET channel=%s WHERE channel=%s", (old_name, new))
        connection.execute("DELETE FROM gems_version WHERE version > 1")
        connection.execute("INSERT INTO gems_version VALUES (1) ON CONFLICT DO NOTHING")


def kept_names(home: Path, url: str | None) -> set[str]:
    """Return which of the old and new names the stored checkpoints and writes contain."""
    if url is None:
        with contextlib.closing(sqlite3.connect(home / "checkpoints.sqlite3")) as raw:
            names = {name for (name,) in raw.execute("SELECT DISTINCT channel FROM writes")}
            texts = [
                str(checkpoint_serializer().loads_typed((kind, data))) + bytes(metadata).decode()
                for kind, data, metadata in raw.execute("SELECT type, checkpoint, metadata FROM checkpoints")
            ]
    else:
        with psycopg.connect(url) as connection:
            names = {
                row[0]
                for table in ("checkpoint_blobs", "checkpoint_writes")
                for row in connection.execute(f"SELECT DISTINCT channel FROM {table}".encode())
            }
            texts = [f"{row[0]}{row[1]}" for row in connection.execute("SELECT checkpoint, metadata FROM checkpoints")]
    known = {*OLD_NAMES, *OLD_NAMES.values()}
    # In texts only channels with versions count: `drawing` is also a key of `skill_uses`.
    return (names & known) | {name for name in known if any(f"'{name}': '0" in text for text in texts)}
