"""Where the graph goes next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from gems.state import State

SKILL_NODE = "skill_{}"
ANY_SKILL = "skill"
"""The node of every skill that has none of its own."""


def next_skill(state: State) -> str | None:
    """The chosen skill whose turn it is; None once each has had its turn."""
    used = {use["name"] for use in state.get("skill_uses") or []}
    return next((name for name in state["plan"]["skills"] if name not in used), None)


def after_planning(nodes: frozenset[str]) -> Callable[[State], str]:
    """Where to go once planner and decomposer are done, and after each skill.

    Args:
        nodes: Names of the nodes of single skills.
    """

    def route(state: State) -> str:
        name = next_skill(state)
        if name is None:
            return "generator"
        return own if (own := SKILL_NODE.format(name)) in nodes else ANY_SKILL

    return route


def after_generator(state: State) -> Literal["judge", "finish"]:
    """The judge, unless drawing ended the run."""
    return "finish" if state.get("stop_reason") else "judge"


def after_judge(state: State) -> Literal["reflector", "finish"]:
    """The reflector while the loop goes on."""
    return "finish" if state.get("stop_reason") else "reflector"


def after_reflector(state: State) -> Literal["generator", "finish"]:
    """The generator, unless reflecting ended the run."""
    return "finish" if state.get("stop_reason") else "generator"
