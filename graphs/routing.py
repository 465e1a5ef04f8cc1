"""Conditional edges of the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from gems.nodes.person import is_asked
from gems.state import State

SKILL_NODE = "skill_{}"
ANY_SKILL = "skill"
"""Node of every skill without its own node."""


def next_skill(state: State) -> str | None:
    """Return the chosen skill to run next; None once all have run."""
    used = {use["name"] for use in state.get("skill_uses") or []}
    return next((name for name in state["plan"]["skills"] if name not in used), None)


def after_planning(nodes: frozenset[str]) -> Callable[[State], str]:
    """Return the router for `ready` and skill nodes, given the names of single skills' nodes."""

    def route(state: State) -> str:
        name = next_skill(state)
        if name is None:
            return "generator"
        return own if (own := SKILL_NODE.format(name)) in nodes else ANY_SKILL

    return route


def after_generator(state: State) -> Literal["judge", "person", "finish"]:
    """Go to the judge, unless the generator ended the run; a person whose wish failed is asked again."""
    if not state.get("stop_reason"):
        return "judge"
    return "person" if is_asked(state) else "finish"


def after_judge(state: State) -> Literal["person", "reflector", "finish"]:
    """Go to the reflector while the loop continues; first to the person who wants to be asked."""
    return "person" if is_asked(state) else after_person(state)


def after_person(state: State) -> Literal["reflector", "finish"]:
    """Go to the reflector while the loop continues."""
    return "finish" if state.get("stop_reason") else "reflector"


def after_reflector(state: State) -> Literal["generator", "finish"]:
    """Go to the generator, unless the reflector ended the run."""
    return "finish" if state.get("stop_reason") else "generator"
