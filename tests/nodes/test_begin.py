"""The beginning of a run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from langgraph.checkpoint.memory import InMemorySaver

from gems.errors import BudgetReachedError, OptionError, PromptError
from gems.graphs.loop import build_graph
from gems.nodes.begin import begin
from gems.nodes.generator import affordable_images
from tests.support.scripted_models import Desk, FlatGenerator, checks, opened_desk, requirements


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened_desk(tmp_path) as opened:
        yield opened


async def test_options_are_completed(desk: Desk) -> None:
    update = await begin({"prompt": " a cat ", "seed": 3}, desk.work())
    assert set(update) == {"options"}
    assert (update["options"]["seed"], update["options"]["width"]) == (3, 64)


@pytest.mark.parametrize(
    ("given", "error"), [({"prompt": " "}, PromptError), ({"prompt": "a", "max_rounds": 0}, OptionError)]
)
async def test_bad_requests_cost_nothing(desk: Desk, given: Any, error: type[Exception]) -> None:
    graph = build_graph().compile()
    with pytest.raises(error):
        await graph.ainvoke(given, context=desk.context)
    assert desk.chat.asked == []


async def test_second_prompt_on_a_thread_starts_afresh(desk: Desk) -> None:
    """It gets a picture of its own, judged by its own requirements, and its own rounds."""
    graph, thread = build_graph().compile(checkpointer=InMemorySaver()), {"configurable": {"thread_id": "t"}}
    desk.chat.script |= {"decompose": requirements("Is there a cat?"), "checklist": checks("no")}
    first = await graph.ainvoke({"prompt": "a cat", "max_rounds": 2, "seed": 1}, thread, context=desk.context)
    desk.chat.script |= {"decompose": requirements("Is there a dog?"), "checklist": checks("yes")}
    second = await graph.ainvoke({"prompt": "a dog", "seed": 2}, thread, context=desk.context)
    assert (first["stop_reason"], second["stop_reason"]) == ("max_rounds", "passed")
    assert second["image"] != first["image"]
    assert [turn["prompt"] for turn in second["rounds"]] == ["a dog"]
    assert second["experiences"] == []
    assert [item["question"] for item in second["requirements"]] == ["Is there a dog?"]


async def test_bad_second_prompt_on_a_thread_is_an_error(desk: Desk) -> None:
    """The first prompt's picture is no answer to it."""
    graph, thread = build_graph().compile(checkpointer=InMemorySaver()), {"configurable": {"thread_id": "t"}}
    desk.chat.script |= {"decompose": requirements("Is there a cat?"), "checklist": checks("yes")}
    await graph.ainvoke({"prompt": "a cat", "seed": 1}, thread, context=desk.context)
    with pytest.raises(PromptError):
        await graph.ainvoke({"prompt": " "}, thread, context=desk.context)


async def test_budget_is_looked_at_before_the_first_image(tmp_path: Path) -> None:
    async with opened_desk(tmp_path, generator=FlatGenerator(price_usd=0.1)) as desk:
        state: Any = {"prompt": "a cat", "candidates": 4}
        for budget, images in ((0.3, 3), (0.45, 4), (10.0, 100)):
            update = await begin(state | {"budget_usd": budget}, desk.work())
            assert affordable_images(state | update, desk.work()) == images
        update = await begin(state | {"budget_usd": 0.05}, desk.work())
        with pytest.raises(BudgetReachedError, match=r"0\.05"):
            affordable_images(state | update, desk.work())
