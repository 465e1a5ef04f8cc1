"""Recover the best image of a run that failed outside of its nodes, or with unreadable checkpoints.

Nodes turn their own errors into stop reasons once there is an image. What remains are errors before the first
image, and those of the checkpointer.
"""

from __future__ import annotations

import logging
import sqlite3
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from gems.errors import CorruptStoreError, GemsError, InternalError, StorageError
from gems.events import (
    Event,
    ImageDrawn,
    Judged,
    Planned,
    Reflected,
    RequirementsListed,
    Stopped,
    Warned,
)
from gems.memory.ledger import Ledger
from gems.memory.sqlite import reading, storage_error
from gems.observability.redaction import redact
from gems.state import State
from gems.types import Candidate, Experience, Requirement, Round, RunRow

logger = logging.getLogger(__name__)
EventT = TypeVar("EventT", bound=Event)


@dataclass(frozen=True, slots=True)
class RunEvidence:
    """Information about a run besides its checkpoints.

    Attributes:
        heard: Its events since this process began to work on it.
        drawings: Its images in the ledger, in order.
    """

    events: Sequence[Event]
    drawings: Sequence[Candidate]

    def events_of(self, kind: type[EventT]) -> list[EventT]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


def to_gems_error(cause: Exception, checkpoints: Path) -> GemsError:
    """Convert the error of a failed run to a GemsError; `checkpoints` is the file of SQLite errors."""
    if isinstance(cause, GemsError):
        return cause
    if isinstance(cause, sqlite3.Error | OSError):
        return storage_error(cause, checkpoints)
    error = InternalError(f"The run failed: {type(cause).__name__}: {cause}.")
    error.__cause__ = cause
    return error


async def read_snapshot(graph: Any, config: Any, checkpoints: Path) -> Any:
    """Return the newest snapshot of a run; CorruptStoreError or StorageError if it cannot be read."""
    with reading(checkpoints):
        return await graph.aget_state(config)


async def read_state(graph: Any, config: Any, checkpoints: Path) -> dict[str, Any]:
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
    state: dict[str, Any], row: RunRow, known: RunEvidence, error: GemsError
) -> tuple[State, list[str]]:
    """Rebuild the state of a failed run that has an image; also return new warnings.

    Events are added to what the checkpoints have. A run that ended before its checkpoints failed keeps its
    stop reason; otherwise the failure is written into the state. Without an image, `error` is raised.
    """
    rebuilt = state | _merge_events(state, row, known)
    if not rebuilt["rounds"] and not rebuilt["drawn"]:
        raise error
    trace = redact("".join(traceback.format_exception(error)))
    logger.error("The run %s failed: %s\n%s", row["run_id"], error, trace)
    stopped = known.events_of(Stopped)
    if not stopped:
        failure = {"node": "", "error": type(error).__name__, "message": str(error)}
        return cast("State", rebuilt | {"stop_reason": "failed", "failure": failure}), []
    warning = (
        "Only this result has the complete run, with incomplete usage, because the checkpoints could not be "
        f"stored: {error}"
    )
    end = {"stop_reason": stopped[-1].stop_reason, "failure": stopped[-1].failure}
    warnings = [*rebuilt["warnings"], warning]
    return cast("State", rebuilt | end | {"warnings": warnings}), [warning]


def state_from_ledger(row: RunRow, drawings: Sequence[Candidate], error: CorruptStoreError) -> State:
    """Return a state with the known images of a run without checkpoints; raise `error` if there are none."""
    if not drawings:
        raise error
    best = row["summary"].get("image") or drawings[-1]["image"]
    warning = (
        f"{error} Only the images of this run are known ({len(drawings)}) and still stored; the "
        f"{'best' if row['summary'] else 'newest'} comes first. Prompts and verdicts cannot be read."
    )
    return {
        "drawn": sorted(drawings, key=lambda candidate: candidate["image"] != best),
        "draw_prompt": "",
        "requirements": [_whole_prompt_requirement(row)],
        "options": row["options"],
        "stop_reason": row["summary"].get("stop_reason"),
        "warnings": [warning],
    }


def _merge_events(state: dict[str, Any], row: RunRow, known: RunEvidence) -> dict[str, Any]:
    """Merge the events into the parts of the state that they describe."""
    rounds = _by_number(state.get("rounds") or [], "number")
    last = max(rounds, default=0)
    experiences = _by_number(state.get("experiences") or [], "round")
    for reflected in known.events_of(Reflected):
        experiences.setdefault(reflected.experience["round"], reflected.experience)
    prompts = _prompts_by_round(state, row, known, experiences.values())
    for judged in known.events_of(Judged):
        round_ = rounds.get(judged.round) or _judged_round(judged, state, row, known, prompts)
        # Events are never older than checkpoints: a resumed run may have judged the round again.
        newer = {"verdicts": judged.verdicts, "best": judged.best, "score": judged.score}
        rounds[judged.round] = round_ | newer
    newest = max((event.round for event in known.events_of(ImageDrawn)), default=0)
    drawn = [] if max(rounds, default=0) > last else state.get("drawn") or []
    if newest > max(rounds, default=0):
        drawn = _candidates_of_round(known, newest)
    warnings = state.get("warnings") or []
    new_warnings = [event.message for event in known.events_of(Warned) if event.message not in warnings]
    return {
        "rounds": [rounds[number] for number in sorted(rounds)],
        "experiences": [experiences[number] for number in sorted(experiences)],
        "drawn": drawn,
        "draw_prompt": prompts.get(newest) or state.get("draw_prompt") or row["prompt"],
        "requirements": state.get("requirements")
        or _known_requirements(known)
        or [_whole_prompt_requirement(row)],
        "options": row["options"],
        "plan": state.get("plan") or next((event.plan for event in known.events_of(Planned)), None),
        "warnings": [*warnings, *new_warnings],
    }


def _judged_round(
    judged: Judged, state: dict[str, Any], row: RunRow, known: RunEvidence, prompts: dict[int, str]
) -> Round:
    """Build a judged round; its times are unknown."""
    candidates = _candidates_of_round(known, judged.round)
    shown = [verdict["image"] for verdict in judged.verdicts]
    if [candidate["image"] for candidate in candidates] != shown:
        # Found in the ledger instead of generated again, so there were no events.
        by_image = {c["image"]: c for c in (*known.drawings, *(state.get("drawn") or []), *candidates)}
        candidates = [by_image[image] for image in shown]
    return {
        "number": judged.round,
        "prompt": prompts.get(judged.round) or row["prompt"],
        "negative_prompt": row["options"]["negative_prompt"],
        "candidates": candidates,
        "verdicts": judged.verdicts,
        "best": judged.best,
        "score": judged.score,
        "seconds": {},
    }


def _prompts_by_round(
    state: dict[str, Any], row: RunRow, known: RunEvidence, experiences: Iterable[Experience]
) -> dict[int, str]:
    """Return the known prompt of each round; those of generated images take precedence."""
    written = {experience["round"] + 1: experience["next_prompt"] for experience in experiences}
    planned = dict(enumerate((event.plan["prompt"] for event in known.events_of(Planned)[:1]), 1))
    reached = {len(state.get("rounds") or []) + 1: state.get("draw_prompt") or row["prompt"]}
    return planned | reached | written | {event.round: event.prompt for event in known.events_of(ImageDrawn)}


def _candidates_of_round(known: RunEvidence, number: int) -> list[Candidate]:
    drawn = {
        event.candidate["index"]: event.candidate
        for event in known.events_of(ImageDrawn)
        if event.round == number
    }
    return [drawn[index] for index in sorted(drawn)]


def _known_requirements(known: RunEvidence) -> list[Requirement]:
    lists = known.events_of(RequirementsListed)
    return lists[-1].requirements if lists else []


def _whole_prompt_requirement(row: RunRow) -> Requirement:
    """Return a single requirement for the whole prompt, if the requirements are unknown."""
    question = f"Does this image show: {row['prompt']}?"
    return {"id": "r1", "question": question, "kind": "other", "parents": []}


def _by_number(items: Iterable[Any], key: str) -> dict[int, Any]:
    return {item[key]: item for item in items}
