"""Checkpoints in the order they were made, whatever the clock says."""

from __future__ import annotations

from uuid import UUID

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.base import id as checkpoint_ids

_VERSION = 6


def go_on_behind(found: CheckpointTuple | None) -> CheckpointTuple | None:
    """Hand on a checkpoint that was read, and see that those to come count as newer.

    The newest checkpoint of a thread is the one with the greatest id, and ids begin with the time. LangGraph
    keeps them rising within a process; but where the clock was set back since another process, or another
    machine, worked on a run, what is done now would be older than what was done then, and be lost.
    """
    made = _made(found.checkpoint["id"]) if found is not None else None
    last = checkpoint_ids._last_v6_timestamp  # noqa: SLF001 - LangGraph has no other way
    if made is not None and made > (last or 0):
        checkpoint_ids._last_v6_timestamp = made  # type: ignore[assignment]  # noqa: SLF001
    return found


def _made(name: str) -> int | None:
    """When a checkpoint was made by its id, in tenths of microseconds; None for ids of another kind."""
    try:
        found = UUID(name)
    except ValueError:
        return None
    # The time's upper 48 bits, the version, and the time's lower 12 bits.
    return found.int >> 80 << 12 | found.int >> 64 & 0xFFF if found.version == _VERSION else None
