"""Retrieve lessons of earlier runs, and record new ones."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable
from typing import Any, cast, get_args

from gems.errors import GemsError, InternalError, LimitReached
from gems.events import LessonsRecalled
from gems.memory.experience import (
    EXPERIENCES,
    StepCounts,
    count_outcomes,
    credit_ops,
    experience_ops,
    memory_namespace,
    namespace,
    requirements_with_answer,
)
from gems.memory.ledger import KeptAnswer
from gems.memory.measurements import MEASUREMENTS, YesTally, count_rechecks, measurement_ops
from gems.memory.retrieval import LessonQuery, recall
from gems.nodes.context import NodeContext
from gems.state import State
from gems.types import NO_USAGE, Action, Recall, Recalled

MAX_OUTCOMES = 200
"""Most experiences of each action that are counted: enough to tell how well a generator mends."""
UNREACHABLE = "Earlier runs' lessons cannot be used:"
"""Start of the warning about an unavailable store; a run emits it once."""


async def recall_lessons(state: State, work: NodeContext, number: int) -> list[Recalled]:
    """Return lessons of earlier runs that fit the prompt of round `number`; empty if memory is off.

    The ledger records them, so that a repeated node asks the same question. A failing store is warned about.
    """
    if work.store is None or not state["options"].get("memory", True) or work.profile == "paper":
        return []
    key = f"recall/{number}"
    kept = await work.context.ledger.answer(work.run_id, key) if work.run_id else None
    if kept is not None:
        return cast("list[Recalled]", json.loads(kept["text"]))
    try:
        rounds = state.get("rounds") or []
        failed = requirements_with_answer(rounds[-1], state["requirements"], "no") if rounds else []
        query = LessonQuery(
            prompt=state["prompt"],
            generator=_namespace(state, work),
            without=frozenset({run_name(state, work)}),
            failing=[item["question"] for item in failed],
            kinds=frozenset(item["kind"] for item in failed),
        )
        found = await work.within_limits(recall(work.store, query))
    except (LimitReached, InternalError):
        raise
    except GemsError as error:
        if not has_store_warning((*(state.get("warnings") or ()), *work.warnings)):
            work.warn(f"{UNREACHABLE} {error}")
        return []
    if work.run_id:
        text = json.dumps(found, ensure_ascii=False)
        answer: KeptAnswer = {"text": text, "thought": "", "yes_probability": None, "usage": NO_USAGE}
        await work.context.ledger.enter_answer(work.run_id, key, "recall", answer)
    if found:
        work.emit(LessonsRecalled(recall={"round": number, "lessons": found}))
    return found


async def recall_outcomes(state: State, work: NodeContext) -> StepCounts:
    """Return the outcomes of drawing anew and of mending in other runs of this generator; none if memory is off."""
    if work.store is None or not state["options"].get("memory", True):
        return {}
    place, run = namespace(EXPERIENCES, _namespace(state, work)), run_name(state, work)
    try:
        searches = (
            work.store.asearch(place, filter={"action_after": action}, limit=MAX_OUTCOMES)
            for action in get_args(Action)
        )
        found = await work.within_limits(asyncio.gather(*searches))
    except (LimitReached, InternalError):
        raise
    except GemsError as error:
        if not has_store_warning((*(state.get("warnings") or ()), *work.warnings)):
            work.warn(f"{UNREACHABLE} {error}")
        return {}
    others = [item.value for items in found for item in items if item.value["run"] != run]
    return count_outcomes(outcome for value in others for outcome in value.get("steps_after") or ())


async def recall_rechecks(state: State, work: NodeContext) -> list[YesTally]:
    """Return how often later looks confirmed this judge's yes in other runs; nothing if memory is off."""
    if work.store is None or not state["options"].get("memory", True):
        return []
    place, judge = namespace(MEASUREMENTS, _namespace(state, work)), work.context.chats["judge"].name
    try:
        found = await work.within_limits(work.store.asearch(place, filter={"judge": judge}, limit=MAX_OUTCOMES))
    except (LimitReached, InternalError):
        raise
    except GemsError as error:
        if not has_store_warning((*(state.get("warnings") or ()), *work.warnings)):
            work.warn(f"{UNREACHABLE} {error}")
        return []
    run = run_name(state, work)
    return count_rechecks(each for item in found if item.value["run"] != run for each in item.value["rechecks"])


def recalls_update(number: int, found: list[Recalled]) -> dict[str, list[Recall]]:
    """Return the update that records the lessons used in round `number`."""
    return {"recalls": [{"round": number, "lessons": found}]} if found else {}


async def record_outcome(state: State, work: NodeContext) -> None:
    """Record the outcome of the newest judged round: experiences up to it, and credits for lessons."""
    if work.store is None or not state["options"].get("memory", True) or not state.get("rounds"):
        return
    newest, run = state["rounds"][-1]["number"], run_name(state, work)
    values = cast("dict[str, Any]", state)
    put = experience_ops(values, run, _namespace(state, work))
    judge = work.context.chats["judge"].name
    put += measurement_ops(values, run, _namespace(state, work), judge)
    operations = [op for op in put if op["value"]["round"] >= newest - 1]
    for given in state.get("recalls") or []:
        if given["round"] == newest:
            operations += credit_ops(given, values, f"credit/{run}")
    for op in operations:
        await work.hand_on(op)


def has_store_warning(warnings: Iterable[str]) -> bool:
    """Return whether the run has already warned about an unavailable store."""
    return any(warning.startswith(UNREACHABLE) for warning in warnings)


def _namespace(state: State, work: NodeContext) -> str:
    return memory_namespace(work.context.generator.capabilities.model, state.get("owner") or "")


def run_name(state: State, work: NodeContext) -> str:
    """Return the run's name in experiences: its id, or a hash of prompt and seed without threads."""
    if work.run_id:
        return work.run_id
    identity = f"{state['prompt']}\x1f{state['options']['seed']}"
    return f"unnamed-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
