"""What can be drawn and asked of the graph before it runs."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from gems.graphs.loop import build_graph
from gems.graphs.routing import after_generator, after_judge, after_planning, after_reflector
from gems.skills.models import Skill
from gems.state import Context
from tests.support.graph_runs import compiled

SPATIAL = Skill(name="spatial", description="Where things stand.", body="Say where.")


def test_the_drawn_graph_shows_every_station_and_the_insides_of_skills() -> None:
    drawn = compiled([SPATIAL]).get_graph(xray=True)
    assert {"planner", "decomposer", "generator", "judge", "reflector", "finish"} <= set(drawn.nodes)
    assert {"skill_spatial:load", "skill_spatial:enhance", "skill_spatial:keep"} <= set(drawn.nodes)
    edges = {(edge.source, edge.target) for edge in drawn.edges}
    assert {
        ("__start__", "begin"),
        ("begin", "planner"),
        ("begin", "decomposer"),
        ("decomposer", "ready"),
        ("planner", "ready"),
        ("ready", "generator"),
        ("ready", "skill_spatial:load"),
        ("ready", "skill"),
        ("skill_spatial:keep", "generator"),
        ("skill", "generator"),
        ("generator", "judge"),
        ("judge", "reflector"),
        ("reflector", "generator"),
        ("judge", "finish"),
        ("finish", "__end__"),
    } <= edges
    assert "skill_spatial" in drawn.draw_mermaid()


def test_graph_without_skills_can_be_drawn() -> None:
    assert "reflector" in compiled().get_graph(xray=True).nodes


def test_schemas_can_be_asked_for() -> None:
    graph = compiled([SPATIAL])
    assert "prompt" in graph.get_input_jsonschema()["properties"]
    assert "image" in graph.get_output_jsonschema()["properties"]
    assert graph.get_context_jsonschema() is None or isinstance(graph.get_context_jsonschema(), dict)


def test_the_builder_is_not_compiled() -> None:
    builder = build_graph([SPATIAL])
    assert builder.context_schema is Context
    assert builder.compile(checkpointer=InMemorySaver(), name="mine").name == "mine"


@pytest.mark.parametrize(
    ("used", "ahead"), [([], "skill_a"), (["a"], "skill_b"), (["a", "b"], "skill"), (["a", "b", "late"], "generator")]
)
def test_each_chosen_skill_has_its_turn(used: list[str], ahead: str) -> None:
    plan = {"skills": ["a", "b", "late"], "why": "", "prompt": ""}
    state: Any = {"plan": plan, "skill_uses": [{"name": name} for name in used]}
    assert after_planning(frozenset({"skill_a", "skill_b"}))(state) == ahead


def test_thirty_skills_get_nodes_of_their_own_and_the_rest_share_one() -> None:
    skills = [Skill(name=f"s{number:02}", description="Any.", body="Any.") for number in range(35)]
    nodes = [name for name in build_graph(skills).nodes if name.startswith("skill")]
    assert len(nodes) == 31
    assert {"skill_s29", "skill"} <= set(nodes)
    assert "skill_s30" not in nodes


def test_a_stop_reason_leads_to_the_end_from_everywhere() -> None:
    routes = {after_generator: "judge", after_judge: "reflector", after_reflector: "generator"}
    for route, onwards in routes.items():
        assert route({"stop_reason": None}) == onwards
        assert route({}) == onwards
        assert route({"stop_reason": "failed"}) == "finish"
