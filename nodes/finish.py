"""End of a run: the best image and its result."""

from __future__ import annotations

from typing import Any

from gems.errors import InternalError
from gems.events import Stopped
from gems.nodes.base import Update
from gems.nodes.checklist import unknown_answer
from gems.nodes.context import NodeContext
from gems.nodes.conversation import answer_update
from gems.nodes.drawing import image_url_update, negative_prompt
from gems.nodes.lessons import record_outcome
from gems.nodes.scoring import best_round, build_verdict
from gems.state import State
from gems.types import Round


async def finish(state: State, work: NodeContext) -> Update:
    """Write the result: the best image of all rounds."""
    reason = state.get("stop_reason")
    rounds = all_rounds(state)
    if reason is None or not rounds:
        raise InternalError(f"The run ended without an image or a reason (reason {reason!r}).")
    found = outcome(rounds)
    await record_outcome(state, work)
    work.emit(
        Stopped(stop_reason=reason, image=found["image"], score=found["score"], failure=state.get("failure"))
    )
    return (
        found
        | image_url_update(found["image"], work.context)
        | answer_update(state, found, rounds, work.context)
    )


def outcome(rounds: list[Round]) -> dict[str, Any]:
    """Return the best image of at least one round with its score, round and prompt."""
    best = best_round(rounds)
    return {
        "image": best["candidates"][best["best"]]["image"],
        "score": best["score"],
        "best_round": best["number"],
        "final_prompt": best["prompt"],
    }


def all_rounds(state: State) -> list[Round]:
    """Return the judged rounds, followed by one for images that were generated but not judged.

    Such images exist if an error or a limit occurred before they were judged. Their answers are all unknown,
    so that they are neither lost nor reported as verified.
    """
    judged = list(state.get("rounds") or [])
    candidates = state.get("drawn") or []
    if not candidates:
        return judged
    answers = [unknown_answer(requirement, "not judged") for requirement in state["requirements"]]
    unjudged: Round = {
        "number": len(judged) + 1,
        "prompt": state["draw_prompt"],
        "negative_prompt": negative_prompt(state),
        "candidates": candidates,
        "verdicts": [build_verdict(candidate["image"], answers) for candidate in candidates],
        "best": 0,
        "score": 0.0,
        "seconds": state.get("timings") or {},
    }
    return [*judged, unjudged]
