"""End of a run: the best image and its result."""

from __future__ import annotations

from gems.errors import InternalError
from gems.events import Stopped
from gems.nodes.base import Update
from gems.nodes.context import NodeContext
from gems.nodes.conversation import answer_update, shown_update
from gems.nodes.generator import image_url_update
from gems.nodes.lessons import record_outcome
from gems.results import all_rounds, outcome
from gems.state import State


async def finish(state: State, work: NodeContext) -> Update:
    """Write the result: the best image of all rounds."""
    reason = state.get("stop_reason")
    rounds = all_rounds(state)
    if reason is None or not rounds:
        raise InternalError(f"The run ended without an image or a reason (reason {reason!r}).")
    found = outcome(rounds)
    await record_outcome(state, work)
    work.emit(Stopped(stop_reason=reason, image=found["image"], score=found["score"], failure=state.get("failure")))
    answer = answer_update(state, found, rounds, work.context)
    shown = shown_update(state, found["image"], answer)
    return found | image_url_update(found["image"], work.context) | answer | shown
