"""Nodes for harnesses that leave out parts of the loop."""

from __future__ import annotations

from gems.events import Planned
from gems.nodes.base import Update
from gems.nodes.context import NodeContext
from gems.state import State, negative_prompt
from gems.types import Round


async def keep_prompt(state: State, work: NodeContext) -> Update:
    """Use the user's prompt unchanged."""
    return plan_update(state["prompt"], "The harness uses the prompt unchanged.", work)


async def skip_requirements(state: State, work: NodeContext) -> Update:  # noqa: ARG001 - node signature
    """Set no requirements: nothing is checked."""
    return {"requirements": []}


async def accept_image(state: State, work: NodeContext) -> Update:
    """Accept the run's only image without judging it."""
    turn: Round = {
        "number": work.round,
        "prompt": state["draw_prompt"],
        "negative_prompt": negative_prompt(state),
        "candidates": state["drawn"],
        "verdicts": [
            {"image": candidate["image"], "answers": [], "score": 0.0} for candidate in state["drawn"]
        ],
        "best": 0,
        "score": 0.0,
        "seconds": state.get("timings") or {},
    }
    return {"rounds": [turn], "drawn": [], "thought": "", "stop_reason": "max_rounds"}


def plan_update(prompt: str, why: str, work: NodeContext) -> Update:
    """Return the update of a planner that chooses no skill and starts with `prompt`."""
    work.emit(Planned(plan={"skills": [], "why": why, "prompt": prompt}))
    return {"plan": {"skills": [], "why": why, "prompt": prompt}, "draw_prompt": prompt}
