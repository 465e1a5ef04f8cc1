"""The end of a run: the best image, and what it lacks."""

from __future__ import annotations

from gems.errors import InternalError
from gems.events import Stopped
from gems.nodes.node import Update
from gems.nodes.scoring import best_round, verdict
from gems.nodes.verifying import unknown
from gems.state import State
from gems.types import Round
from gems.work import Work


async def finish(state: State, work: Work) -> Update:
    """Write the result: the best image of all rounds.

    Images that were drawn and never judged, since a fault or a limit came first, make a round whose answers
    are all unknown, so that they are neither lost nor passed off as verified.
    """
    unjudged = _unjudged_round(state)
    rounds = [*(state.get("rounds") or []), *unjudged]
    reason = state.get("stop_reason")
    if reason is None or not rounds:
        raise InternalError(f"The run ended without an image or a reason (reason {reason!r}).")
    best = best_round(rounds)
    image = best["candidates"][best["best"]]["image"]
    work.emit(Stopped(stop_reason=reason, image=image, score=best["score"], failure=state.get("failure")))
    return {
        "rounds": unjudged,
        "drawn": [],
        "image": image,
        "score": best["score"],
        "best_round": best["number"],
        "final_prompt": best["prompt"],
    }


def _unjudged_round(state: State) -> list[Round]:
    candidates = state.get("drawn") or []
    if not candidates:
        return []
    answers = [unknown(requirement, "not judged") for requirement in state["requirements"]]
    return [
        {
            "number": len(state.get("rounds") or []) + 1,
            "prompt": state["draw_prompt"],
            "negative_prompt": state["options"]["negative_prompt"],
            "candidates": candidates,
            "verdicts": [verdict(candidate["image"], answers) for candidate in candidates],
            "best": 0,
            "score": 0.0,
            "seconds": state.get("timings") or {},
        }
    ]
