"""Where the graph goes next."""

from __future__ import annotations

from typing import Literal

from gems.state import State

SKILL_NODE = "skill_{}"


def after_planning(state: State) -> str:
    """The node of the next chosen skill, or `ready` once each has had its turn."""
    used = state.get("skills_used") or []
    waiting = [name for name in state["plan"]["skills"] if name not in used]
    return SKILL_NODE.format(waiting[0]) if waiting else "ready"


def after_drawing(state: State) -> Literal["judge", "finish"]:
    """The judge, unless drawing ended the run."""
    return "finish" if state.get("stop_reason") else "judge"


def after_judging(state: State) -> Literal["reflector", "finish"]:
    """The reflector while the loop goes on."""
    return "finish" if state.get("stop_reason") else "reflector"


def after_reflecting(state: State) -> Literal["generator", "finish"]:
    """The generator, unless reflecting ended the run."""
    return "finish" if state.get("stop_reason") else "generator"
