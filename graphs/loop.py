"""The cyclic graph: plan and decompose, then draw, judge and reflect until a stop rule fires.

START -> begin -> planner ----+
         begin -> decomposer -+-> ready -> (skills) -> generator -> judge -> finish -> END
                                                           ^          |
                                                           |       (person) -> finish
                                                           +- reflector
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from types import MappingProxyType
from typing import cast

from langgraph.graph import END, START, StateGraph

from gems.graphs.routing import (
    ANY_SKILL,
    SKILL_NODE,
    after_generator,
    after_judge,
    after_person,
    after_planning,
    after_reflector,
)
from gems.graphs.skills import any_skill_node, skill_node
from gems.nodes.base import BEGIN, NodeFunction, as_node
from gems.nodes.begin import begin
from gems.nodes.decomposer import decompose, prepare_skills
from gems.nodes.finish import finish
from gems.nodes.generator import generate
from gems.nodes.judge import judge
from gems.nodes.person import ask_person
from gems.nodes.planner import plan
from gems.nodes.reflector import reflect
from gems.skills.models import Skill
from gems.state import Context, Form, Input, Output, State

RECURSION_LIMIT = 1_000
"""Maximum supersteps of one run: far above what 50 rounds and three skills need; the stop rules end a run."""

MAX_SKILL_NODES = 30
"""Further skills, and those added later, share one node."""

GraphBuilder = Callable[[Iterable[Skill]], "StateGraph[State, Context, Input, Output]"]
"""Builds the loop, or another graph with the same state, input and output."""

_NODES: dict[str, NodeFunction] = {
    BEGIN: begin,
    "planner": plan,
    "decomposer": decompose,
    "ready": prepare_skills,
    "generator": generate,
    "judge": judge,
    "person": ask_person,
    "reflector": reflect,
    "finish": finish,
}


def build_graph(
    skills: Iterable[Skill] = (),
    *,
    context: Context | None = None,
    instead: Mapping[str, NodeFunction] = MappingProxyType({}),
) -> StateGraph[State, Context, Input, Output]:
    """Return the loop, not yet compiled: compile it with your own checkpointer, or use it as part of a graph.

    Invoke it with `context=` a `gems.state.Context`, which `gems.resources.open_resources` creates.

    Args:
        skills: The first 30 get a node each. Blocking if they have code.
        context: Used if the caller of the compiled graph passes none. Such a graph is for servers: callers
            fill in a form, and state neither the run's owner nor its id.
        instead: Functions that replace those of the loop's nodes, by node name.
    """
    # A graph with its own context accepts none: servers would pass an empty one.
    schema = Context if context is None else None
    given = cast("type[Input]", Input if context is None else Form)
    graph = StateGraph(State, context_schema=schema, input_schema=given, output_schema=Output)
    if unknown := instead.keys() - _NODES.keys():
        raise KeyError(f"The loop has no node {', '.join(sorted(unknown))}.")
    for name, doing in {**_NODES, **instead}.items():
        graph.add_node(name, as_node(name, doing, context))
    _add_skill_nodes(graph, list(skills), context)
    graph.add_edge(START, BEGIN)
    graph.add_edge(BEGIN, "planner")
    graph.add_edge(BEGIN, "decomposer")
    graph.add_edge(["planner", "decomposer"], "ready")
    graph.add_conditional_edges("generator", after_generator)
    graph.add_conditional_edges("judge", after_judge)
    graph.add_conditional_edges("person", after_person)
    graph.add_conditional_edges("reflector", after_reflector)
    graph.add_edge("finish", END)
    return graph


def _add_skill_nodes(
    graph: StateGraph[State, Context, Input, Output], skills: list[Skill], context: Context | None
) -> None:
    nodes = {SKILL_NODE.format(skill.name): skill for skill in skills[:MAX_SKILL_NODES]}
    for name, skill in nodes.items():
        graph.add_node(name, skill_node(skill, context))
    graph.add_node(ANY_SKILL, any_skill_node(context))
    route = after_planning(frozenset(nodes))
    for name in ["ready", *nodes, ANY_SKILL]:
        # The shared node may run several times.
        ahead: dict[Hashable, str] = {
            other: other for other in ["generator", *nodes, ANY_SKILL] if other != name or other == ANY_SKILL
        }
        graph.add_conditional_edges(name, route, ahead)
