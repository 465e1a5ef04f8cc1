"""Skills as subgraphs: one node of the loop per skill, around the skill's own compiled graph."""

from __future__ import annotations

from typing import Annotated, Any

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from typing_extensions import TypedDict

from gems.models.usage import merged
from gems.nodes.node import Node, Update, as_node
from gems.nodes.planner import enhance
from gems.skills.registry import Skill
from gems.state import Context, State
from gems.types import Options, Usage
from gems.work import Work


class SkillState(TypedDict, total=False):
    """What a skill's graph works on."""

    prompt: str
    """The prompt to make better. Given."""
    guidance: str
    """The skill's body. Written by `load`."""
    options: Options
    """The run's options. Given."""
    run_id: str
    usage: Annotated[dict[str, Usage], merged]
    warnings: list[str]


class SkillOutput(TypedDict, total=False):
    """What a skill's graph hands back."""

    prompt: str
    usage: Annotated[dict[str, Usage], merged]
    warnings: list[str]


def skill_graph(skill: Skill) -> CompiledStateGraph[Any, Any, Any, Any]:
    """The graph of a skill without code: load its body, then enhance the prompt by it."""

    async def load(_state: Any, _work: Work) -> Update:
        return {"guidance": skill.body}

    async def write(state: Any, work: Work) -> Update:
        return {"prompt": await enhance(state["prompt"], state["guidance"], work)}

    graph = StateGraph(SkillState, context_schema=Context, output_schema=SkillOutput)
    graph.add_node("load", as_node("load", load))
    graph.add_node("enhance", as_node("enhance", write))
    graph.add_edge(START, "load")
    graph.add_edge("load", "enhance")
    graph.add_edge("enhance", END)
    # The outer graph's checkpointer covers the whole node; a skill keeps none of its own.
    return graph.compile(checkpointer=None, name=skill.name)


def skill_node(skill: Skill, default: Context | None = None) -> Node:
    """The loop's node for a skill: a closure over its graph, with explicit input and output.

    A graph used directly as a node would share every key with the loop's state.
    """
    inner = skill_graph(skill)

    async def node(state: State, *, runtime: Runtime[Context]) -> Update:
        given = {
            "prompt": state["draw_prompt"],
            "options": state["options"],
            "run_id": state.get("run_id") or "",
        }
        result = await inner.ainvoke(given, context=runtime.context or default)
        return {
            "draw_prompt": result["prompt"],
            "skills_used": [*(state.get("skills_used") or []), skill.name],
            "usage": result.get("usage") or {},
            "warnings": result.get("warnings") or [],
        }

    node.__name__ = node.__qualname__ = skill.name
    return node
