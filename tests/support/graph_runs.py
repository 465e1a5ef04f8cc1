"""Run the graph with stores in memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver

from gems.graphs.loop import RECURSION_LIMIT, build_graph
from gems.skills.models import Skill
from tests.support.scripted_models import Desk


def config(thread: str = "thread") -> Any:
    return {"configurable": {"thread_id": thread}, "recursion_limit": RECURSION_LIMIT}


def compiled(skills: Iterable[Skill] = (), checkpointer: Any = None, store: Any = None) -> Any:
    return build_graph(skills).compile(checkpointer=checkpointer or InMemorySaver(), store=store)


async def carried_out(desk: Desk, graph: Any = None, **given: Any) -> dict[str, Any]:
    """The output of a run, whose events end up in the desk's."""
    graph = graph or compiled()
    asked: dict[str, Any] = {"prompt": "a red cat", "seed": 7} | given
    stream = graph.astream(asked, config(), context=desk.context, stream_mode=["custom", "values"], subgraphs=True)
    output: dict[str, Any] = {}
    async for path, mode, value in stream:
        if mode == "custom":
            desk.events.append(value)
        elif not path:
            output = value
    return output
