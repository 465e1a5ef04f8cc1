"""Hand back an image although the run broke outside of its nodes.

Nodes turn their own errors into stop reasons once there is an image. What is left are errors before the
first image, and those of the checkpointer.
"""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import Any, cast

from gems.errors import GemsError, InternalError
from gems.events import ImageDrawn
from gems.memory.faults import storage_error
from gems.memory.ledger import RunRow
from gems.state import State

logger = logging.getLogger(__name__)


def named_error(cause: Exception, checkpoints: Path) -> GemsError:
    """The GEMS error for what broke a run; `checkpoints` is the file that SQLite errors are about."""
    if isinstance(cause, GemsError):
        return cause
    if isinstance(cause, sqlite3.Error | OSError):
        return storage_error(cause, checkpoints)
    error = InternalError(f"The run broke: {type(cause).__name__}: {cause}.")
    error.__cause__ = cause
    return error


async def rescued_state(
    graph: Any, config: Any, row: RunRow, drawn: list[ImageDrawn], error: GemsError
) -> State:
    """The state of a broken run that has an image, with the failure written into it.

    Args:
        graph: The compiled graph.
        config: Names the run's thread.
        row: The run.
        drawn: The images that were drawn since this process began to work on it.
        error: What broke it; raised where there is no image to hand back.
    """
    try:
        state = dict((await graph.aget_state(config)).values)
    except Exception as unreadable:  # noqa: BLE001 - the store that broke the run may not be readable either
        logger.error("The checkpoints of %s cannot be read: %s", row["run_id"], unreadable)  # noqa: TRY400
        state = {}
    if not state.get("rounds") and not state.get("drawn") and drawn:
        state |= _as_drawn(drawn, row, state)
    if not state.get("rounds") and not state.get("drawn"):
        raise error
    logger.error("The run %s broke: %s", row["run_id"], error, exc_info=error)
    failure = {"node": "", "error": type(error).__name__, "message": str(error)}
    return cast("State", state | {"stop_reason": "failed", "failure": failure})


def _as_drawn(drawn: list[ImageDrawn], row: RunRow, state: dict[str, Any]) -> dict[str, Any]:
    """The part of a state that tells of the newest round's images, none of which was judged."""
    newest = [event for event in drawn if event.round == drawn[-1].round]
    whole = {
        "id": "r1",
        "question": f"Does this image show: {row['prompt']}?",
        "kind": "other",
        "parents": [],
    }
    return {
        "drawn": [event.candidate for event in newest],
        "draw_prompt": newest[-1].prompt,
        "requirements": state.get("requirements") or [whole],
        "options": row["options"],
    }
