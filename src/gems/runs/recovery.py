"""Hand back an image although the run broke outside of its nodes, or its checkpoints can no longer be read.

Nodes turn their own errors into stop reasons once there is an image. What is left are errors before the
first image, and those of the checkpointer.
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
from gems.memory.faults import reading, storage_error
from gems.memory.ledger import Ledger, RunRow
from gems.observability.redaction import redact
from gems.state import State
from gems.types import Candidate, Experience, Requirement, Round

logger = logging.getLogger(__name__)
EventT = TypeVar("EventT", bound=Event)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a run besides its checkpoints.

    Attributes:
        heard: What it told since this process began to work on it.
        drawings: What the ledger says was drawn, in order.
    """

    heard: Sequence[Event]
    drawings: Sequence[Candidate]

    def told(self, kind: type[EventT]) -> list[EventT]:
        """The events of one kind."""
        return [event for event in self.heard if isinstance(event, kind)]


def named_error(cause: Exception, checkpoints: Path) -> GemsError:
    """The GEMS error for what broke a run; `checkpoints` is the file that SQLite errors are about."""
    if isinstance(cause, GemsError):
        return cause
    if isinstance(cause, sqlite3.Error | OSError):
        return storage_error(cause, checkpoints)
    error = InternalError(f"The run broke: {type(cause).__name__}: {cause}.")
    error.__cause__ = cause
    return error


async def snapshot_of(graph: Any, config: Any, checkpoints: Path) -> Any:
    """The graph's snapshot of the run that `config` names.

    Raises:
        CorruptStoreError: the file is damaged, or what it holds of the run cannot be decoded.
        StorageError: it cannot be read.
    """
    with reading(checkpoints):
        return await graph.aget_state(config)


async def readable_state(graph: Any, config: Any, checkpoints: Path) -> dict[str, Any]:
    """The state of a broken run; empty where the store that broke it cannot be read either."""
    try:
        return dict((await snapshot_of(graph, config, checkpoints)).values)
    except StorageError as error:
        logger.error("The run's checkpoints cannot be read: %s", error)  # noqa: TRY400 - told, not a defect
        return {}


async def known_drawings(ledger: Ledger, run_id: str) -> list[Candidate]:
    """What the ledger says was drawn for a run; nothing where it cannot be read."""
    try:
        return await ledger.drawings(run_id)
    except StorageError as error:
        logger.error("The run's drawings cannot be looked up: %s", error)  # noqa: TRY400 - told, not a defect
        return []


def rescued_state(
    state: dict[str, Any], row: RunRow, known: Known, error: GemsError
) -> tuple[State, list[str]]:
    """The state of a broken run that has an image, and the warnings in it that nobody heard yet.

    What was told goes behind what the checkpoints know. A run that came to its end before its checkpoints
    failed keeps its reason; otherwise the failure is written into the state.

    Args:
        state: What can be read of it.
        row: The run.
        known: What is known besides.
        error: What broke it; raised where there is no image to hand back.
    """
    rebuilt = state | _rebuilt(state, row, known)
    if not rebuilt["rounds"] and not rebuilt["drawn"]:
        raise error
    traced = redact("".join(traceback.format_exception(error)))
    logger.error("The run %s broke: %s\n%s", row["run_id"], error, traced)
    ends = known.told(Stopped)
    if not ends:
        failure = {"node": "", "error": type(error).__name__, "message": str(error)}
        return cast("State", rebuilt | {"stop_reason": "failed", "failure": failure}), []
    warning = (
        "Only this result knows the whole run, and not all of its usage, since the checkpoints could not be "
        f"kept: {error}"
    )
    end = {"stop_reason": ends[-1].stop_reason, "failure": ends[-1].failure}
    warnings = [*rebuilt["warnings"], warning]
    return cast("State", rebuilt | end | {"warnings": warnings}), [warning]


def salvaged_state(row: RunRow, drawings: Sequence[Candidate], error: CorruptStoreError) -> State:
    """What can be shown of a run whose checkpoints cannot be read: its best image as far as that is known.

    Args:
        row: The run.
        drawings: What the ledger says was drawn.
        error: Raised where nothing was.
    """
    if not drawings:
        raise error
    best = row["summary"].get("image") or drawings[-1]["image"]
    warning = (
        f"{error} Of this run, only its images are known ({len(drawings)}), which are still there; the "
        f"{'best' if row['summary'] else 'newest'} stands first. Prompts and verdicts cannot be read."
    )
    return {
        "drawn": sorted(drawings, key=lambda candidate: candidate["image"] != best),
        "draw_prompt": "",
        "requirements": [_whole(row)],
        "options": row["options"],
        "stop_reason": row["summary"].get("stop_reason"),
        "warnings": [warning],
    }


def _rebuilt(state: dict[str, Any], row: RunRow, known: Known) -> dict[str, Any]:
    """The parts of a state that the events tell of, behind what `state` has of them."""
    rounds = _numbered(state.get("rounds") or [], "number")
    last = max(rounds, default=0)
    experiences = _numbered(state.get("experiences") or [], "round")
    for reflected in known.told(Reflected):
        experiences.setdefault(reflected.experience["round"], reflected.experience)
    prompts = _prompts(state, row, known, experiences.values())
    for judged in known.told(Judged):
        turn = rounds.get(judged.round) or _round(judged, state, row, known, prompts)
        # What was told is never older than what was kept: a resumed run may have judged the round again.
        newer = {"verdicts": judged.verdicts, "best": judged.best, "score": judged.score}
        rounds[judged.round] = turn | newer
    newest = max((event.round for event in known.told(ImageDrawn)), default=0)
    drawn = [] if max(rounds, default=0) > last else state.get("drawn") or []
    if newest > max(rounds, default=0):
        drawn = _drawn(known, newest)
    warnings = state.get("warnings") or []
    unkept = [event.message for event in known.told(Warned) if event.message not in warnings]
    return {
        "rounds": [rounds[number] for number in sorted(rounds)],
        "experiences": [experiences[number] for number in sorted(experiences)],
        "drawn": drawn,
        "draw_prompt": prompts.get(newest) or state.get("draw_prompt") or row["prompt"],
        "requirements": state.get("requirements") or _listed(known) or [_whole(row)],
        "options": row["options"],
        "plan": state.get("plan") or next((event.plan for event in known.told(Planned)), None),
        "warnings": [*warnings, *unkept],
    }


def _round(
    judged: Judged, state: dict[str, Any], row: RunRow, known: Known, prompts: dict[int, str]
) -> Round:
    """A judged round; its times are not known."""
    candidates = _drawn(known, judged.round)
    shown = [verdict["image"] for verdict in judged.verdicts]
    if [candidate["image"] for candidate in candidates] != shown:
        # Found in the ledger instead of drawn again, so nothing was told about them.
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


def _prompts(
    state: dict[str, Any], row: RunRow, known: Known, experiences: Iterable[Experience]
) -> dict[int, str]:
    """The prompt of each round as far as it is known; what was really drawn with counts most."""
    written = {experience["round"] + 1: experience["next_prompt"] for experience in experiences}
    planned = dict(enumerate((event.plan["prompt"] for event in known.told(Planned)[:1]), 1))
    reached = {len(state.get("rounds") or []) + 1: state.get("draw_prompt") or row["prompt"]}
    return planned | reached | written | {event.round: event.prompt for event in known.told(ImageDrawn)}


def _drawn(known: Known, number: int) -> list[Candidate]:
    drawn = {
        event.candidate["index"]: event.candidate for event in known.told(ImageDrawn) if event.round == number
    }
    return [drawn[index] for index in sorted(drawn)]


def _listed(known: Known) -> list[Requirement]:
    lists = known.told(RequirementsListed)
    return lists[-1].requirements if lists else []


def _whole(row: RunRow) -> Requirement:
    """What stands for the requirements where they are not known."""
    question = f"Does this image show: {row['prompt']}?"
    return {"id": "r1", "question": question, "kind": "other", "parents": []}


def _numbered(items: Iterable[Any], key: str) -> dict[int, Any]:
    return {item[key]: item for item in items}
