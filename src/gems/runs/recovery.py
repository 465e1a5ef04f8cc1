"""Recover the best image of a run that failed outside of its nodes, or with unreadable checkpoints.

Nodes turn their own errors into stop reasons once there is an image. What remains are errors before the first
image, and those of the checkpointer.
"""

from __future__ import annotations

import logging
import sqlite3
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.types import StateSnapshot

from gems.errors import CorruptStoreError, GemsError, InternalError, StorageError
from gems.memory.ledger import Ledger
from gems.memory.sqlite import reading, storage_error
from gems.observability.redaction import redact
from gems.runs.fork import Graph
from gems.state import State
from gems.types import Candidate, RunRow

logger = logging.getLogger(__name__)


def to_gems_error(cause: Exception, checkpoints: Path) -> GemsError:
    """Convert the error of a failed run to a GemsError; `checkpoints` is the file of SQLite errors."""
    if isinstance(cause, GemsError):
        return cause
    if isinstance(cause, sqlite3.Error | OSError):
        return storage_error(cause, checkpoints)
    error = InternalError(f"The run failed: {type(cause).__name__}: {cause}.")
    error.__cause__ = cause
    return error


async def read_snapshot(graph: Graph, config: RunnableConfig, checkpoints: Path) -> StateSnapshot:
    """Return the newest snapshot of a run; CorruptStoreError or StorageError if it cannot be read."""
    with reading(checkpoints):
        return await graph.aget_state(config)


async def read_state(graph: Graph, config: RunnableConfig, checkpoints: Path) -> dict[str, Any]:
    """Return the state of a failed run; empty if its checkpoints cannot be read."""
    try:
        return dict((await read_snapshot(graph, config, checkpoints)).values)
    except StorageError as error:
        logger.error("The run's checkpoints cannot be read: %s", error)  # noqa: TRY400 - not a bug
        return {}


async def ledger_drawings(ledger: Ledger, run_id: str) -> list[Candidate]:
    """Return a run's images in the ledger; empty if it cannot be read."""
    try:
        return await ledger.drawings(run_id)
    except StorageError as error:
        logger.error("The run's images cannot be looked up: %s", error)  # noqa: TRY400 - not a bug
        return []


def recover_state(
    state: Mapping[str, Any], row: RunRow, drawings: Sequence[Candidate], error: GemsError
) -> tuple[State, list[str]]:
    """Complete the newest known state of a failed run that has an image; also return new warnings.

    A run that ended before its checkpoints failed keeps its stop reason; otherwise the state gets `error`.
    Without an image, `error` is raised.
    """
    completed = _add_drawings(state, row, drawings, error)
    trace = redact("".join(traceback.format_exception(error)))
    logger.error("The run %s failed: %s\n%s", row["run_id"], error, trace)
    if completed.get("stop_reason") is None:
        failure = {"node": "", "error": type(error).__name__, "message": str(error)}
        return cast("State", completed | {"stop_reason": "failed", "failure": failure}), []
    warning = f"Only this result has the complete run, because the checkpoints could not be stored: {error}"
    warnings = [*(completed.get("warnings") or []), warning]
    return cast("State", completed | {"warnings": warnings}), [warning]


def state_from_ledger(row: RunRow, drawings: Sequence[Candidate], error: CorruptStoreError) -> State:
    """Return a state with the known images of a run without checkpoints; raise `error` if there are none."""
    best = row["summary"].get("image") or (drawings[-1]["image"] if drawings else "")
    ended = row["summary"].get("stop_reason")
    score = row["summary"].get("score")
    known_end = f" It ended as {ended!r} with a score of {score:.2f}." if ended and score is not None else ""
    warning = (
        f"{error}{known_end} Only the images of this run are known ({len(drawings)}) and still stored; the "
        f"{'best' if row['summary'] else 'newest'} comes first. Prompts and verdicts cannot be read."
    )
    known = {"current_prompt": "", "stop_reason": row["summary"].get("stop_reason"), "warnings": [warning]}
    best_first = sorted(drawings, key=lambda candidate: candidate["image"] != best)
    return cast("State", _add_drawings(known, row, best_first, error))


def _add_drawings(
    state: Mapping[str, Any], row: RunRow, drawings: Sequence[Candidate], error: GemsError
) -> dict[str, Any]:
    """Add the images that only the ledger knows as not judged; raise `error` if there is no image at all."""
    rounds, drawn = state.get("rounds") or [], state.get("drawn") or []
    known = {candidate["image"] for round_ in (*rounds, {"candidates": drawn}) for candidate in round_["candidates"]}
    drawn = [*drawn, *(candidate for candidate in drawings if candidate["image"] not in known)]
    if not rounds and not drawn:
        raise error
    # A single requirement for the whole prompt, if the requirements are unknown.
    question = f"Does this image show: {row['prompt']}?"
    whole = {"id": "r1", "question": question, "kind": "other", "parents": []}
    defaults = {"current_prompt": row["prompt"], "requirements": [whole], "options": row["options"]}
    known_state = {name: value for name, value in state.items() if name != "requirements" or value}
    return defaults | known_state | {"drawn": drawn}
