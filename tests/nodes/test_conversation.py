"""Messages that ask for pictures, and their answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage
from langgraph.checkpoint.memory import InMemorySaver

from gems.errors import UnreachableError
from gems.generation import ImageRequest
from gems.graphs.loop import build_graph
from gems.memory.checkpointer import open_checkpointer
from gems.nodes.conversation import read_turns
from gems.state import _add_messages
from tests.support.scripted_models import Desk, checks, opened_desk, requirements

THREAD: Any = {"configurable": {"thread_id": "t"}}


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened_desk(tmp_path) as opened:
        yield opened


@pytest.fixture
def graph() -> Any:
    return build_graph().compile(checkpointer=InMemorySaver())


def said(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


async def prompts(desk: Desk, graph: Any, *inputs: dict[str, Any]) -> list[str]:
    """What the runs on a thread drew, one after another."""
    return [
        (await graph.ainvoke({"seed": 1} | given, THREAD, context=desk.context))["rounds"][0]["prompt"]
        for given in inputs
    ]


async def test_the_newest_message_is_the_prompt(desk: Desk, graph: Any) -> None:
    drawn = await prompts(desk, graph, {"messages": [said("a cat")]}, {"messages": [said("a dog")]})
    assert drawn == ["a cat", "a dog"]


async def test_a_prompt_goes_before_a_message(desk: Desk, graph: Any) -> None:
    both = {"prompt": "a bird", "messages": [said("as I said")]}
    drawn = await prompts(desk, graph, {"messages": [said("a cat")]}, both, {"messages": [said("a dog")]})
    assert drawn == ["a cat", "a bird", "a dog"]


async def test_forms_and_messages_take_turns(desk: Desk, graph: Any) -> None:
    """A prompt that an earlier run left is none that was given."""
    inputs = [{"prompt": "a cat"}, {"messages": [said("a dog")]}, {"prompt": "a bird"}]
    drawn = await prompts(desk, graph, *inputs, {"messages": [said("a fish")]})
    assert drawn == ["a cat", "a dog", "a bird", "a fish"]
    kinds = [message.type for message in (await graph.aget_state(THREAD)).values["messages"]]
    assert kinds == ["human", "ai", "human", "ai"]


async def test_a_message_after_a_run_that_failed(desk: Desk, graph: Any) -> None:
    async def fail(request: ImageRequest) -> None:
        raise UnreachableError("Nothing answers.")

    desk.generator.before = fail
    with pytest.raises(UnreachableError):
        await prompts(desk, graph, {"messages": [said("a cat")]})
    desk.generator.before = None
    assert await prompts(desk, graph, {"messages": [said("a dog")]}) == ["a dog"]


async def test_an_answer_says_what_is_missing_first(desk: Desk) -> None:
    desk.chat.script["decompose"] = requirements(*(f"Is there thing {n}?" for n in range(1, 13)))
    desk.chat.script["checklist"] = checks(*["yes"] * 11, "no")
    context = replace(desk.context, links="/images/")
    given = {"messages": [said("things")], "seed": 1, "max_rounds": 1}
    result = await build_graph(context=context).compile().ainvoke(given)
    picture, text = result["messages"][-1].content
    assert picture["image_url"]["url"] == result["image_url"] == f"/images/{result['image']}.png"
    lines = text["text"].splitlines()
    assert lines[:2] == ["11 of 12 requirements are met, after 1 round.", "- no: Is there thing 12? (It is missing.)"]
    assert (len(lines), lines[-1]) == (12, "- and 2 more")
    assert result["messages"][-1].response_metadata == {
        "image": result["image"],
        "score": pytest.approx(11 / 12),
        "stop_reason": "max_rounds",
    }


async def test_where_no_server_shows_images_the_answer_is_words(desk: Desk, graph: Any) -> None:
    result = await graph.ainvoke({"messages": [said("a cat")], "seed": 1}, THREAD, context=desk.context)
    assert [part["type"] for part in result["messages"][-1].content] == ["text"]
    assert "image_url" not in result


async def test_a_run_without_messages_keeps_none_of_it(desk: Desk, tmp_path: Path) -> None:
    async with open_checkpointer(tmp_path / "checkpoints.sqlite3") as saver:
        graph = build_graph().compile(checkpointer=saver)
        await graph.ainvoke({"prompt": "a cat", "seed": 1}, THREAD, context=desk.context)
        async for saved in saver.alist(THREAD):
            written = {channel for _task, channel, _value in saved.pending_writes or ()}
            kept = written | set(saved.checkpoint["channel_values"]) | set(saved.checkpoint["channel_versions"])
            assert not {"messages", "prompt_digest", "image_url"} & kept


async def test_messages_add_little_to_a_checkpoint(desk: Desk, tmp_path: Path) -> None:
    async with open_checkpointer(tmp_path / "checkpoints.sqlite3") as saver:
        graph = build_graph().compile(checkpointer=saver)
        context = replace(desk.context, links="http://127.0.0.1:2024/images/")
        await graph.ainvoke({"messages": [said("a cat")], "seed": 1}, THREAD, context=context)
        found = (await graph.aget_state(THREAD)).values["messages"]
        assert sum(len(json.dumps(message.model_dump())) for message in found) < 1_500


def test_the_same_messages_get_the_same_ids() -> None:
    writes = [[said("a cat")], said("a cat"), [AIMessage("here", id="mine")]]
    once, again = _add_messages(None, writes), _add_messages(None, writes)
    assert once == again
    assert len({message.id for message in once}) == 3
    assert once == _add_messages(_add_messages(None, writes[:1]), writes[1:])
    assert _add_messages(once, [[RemoveMessage(id="mine")]]) == once[:2]


def test_a_prompt_of_a_form_is_left_alone() -> None:
    assert read_turns({"prompt": "a cat"}) == []
    answered: Any = {"prompt": "a cat", "messages": [HumanMessage("a dog"), AIMessage("here")]}
    assert read_turns(answered) == []


async def test_text_may_stand_in_parts(desk: Desk, graph: Any) -> None:
    parts = [{"type": "text", "text": "a red "}, {"type": "text", "text": "cat"}]
    assert await prompts(desk, graph, {"messages": [said(parts)]}) == ["a red cat"]
