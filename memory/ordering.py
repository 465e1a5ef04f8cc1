"""Keep checkpoint ids increasing, whatever the clock says."""

from __future__ import annotations

from uuid import UUID

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.base import id as checkpoint_ids

_UUID_VERSION = 6


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
    """Return a checkpoint id's time in tenths of microseconds; None for ids that are not UUID version 6."""
    try:
        found = UUID(name)
    except ValueError:
        return None
    # The time's upper 48 bits, the version, and the time's lower 12 bits.
    return found.int >> 80 << 12 | found.int >> 64 & 0xFFF if found.version == _UUID_VERSION else None
