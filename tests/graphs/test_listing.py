"""The first image does not wait for the requirements, and nothing is paid twice for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gems.errors import AuthenticationError, UnreachableError
from gems.generation import ImageRequest
from gems.service import Gems
from gems.skills.models import Skill
from tests.support.chroma import PATIENCE_S
from tests.support.graph_runs import carried_out, compiled, config
from tests.support.scripted_models import (
    Asked,
    Desk,
    FlatGenerator,
    ScriptedChat,
    opened_desk,
    requirements,
    settings_at,
)
from tests.support.skill_folders import coded

OTHERS = Skill(name="others", description="For anything.", body="Be vivid.")
"""What somebody else wrote, so that its prompts are checked."""
GUIDANCE = Skill(name="guidance", description="For anything.", body="Be vivid.", place="built-in")
LISTED = requirements("Is there a cat?", "Is it red?")
WITH_CODE = """
def build(context):
    return context.default()
"""


class Order:
    """Lets the list of requirements wait until the first image is being drawn."""

    def __init__(self, chat: ScriptedChat, generator: FlatGenerator) -> None:
        self.is_drawing = asyncio.Event()
        chat.script["decompose"] = self.list_late
        generator.before = self.draw

    async def draw(self, request: ImageRequest) -> None:
        self.is_drawing.set()

    async def list_late(self, asked: Asked) -> Any:
        await asyncio.wait_for(self.is_drawing.wait(), PATIENCE_S)
        return LISTED


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    code = coded(tmp_path / "code", WITH_CODE)
    async with opened_desk(tmp_path / "home", skills=[GUIDANCE, OTHERS, code]) as desk:
        # As after another run: nothing is drawn while an endpoint that may not exist has answered nothing.
        desk.context.chats["planner"].has_answered = True
        yield desk


@pytest.mark.parametrize("skills", ["none", "auto", "guidance"])
async def test_drawing_begins_before_the_requirements_are_known(skills: str, desk: Desk) -> None:
    Order(desk.chat, desk.generator)
    output = await carried_out(desk, compiled([GUIDANCE]), skills=skills)
    assert output["stop_reason"] == "passed"
    assert [item["question"] for item in output["requirements"]] == ["Is there a cat?", "Is it red?"]
    assert [len(event["requirements"]) for event in desk.told("requirements")] == [2]
    assert desk.chat.tasks().count("decompose") == desk.chat.tasks().count("complete") == 1
    assert output["usage"]["planner"]["calls"] == len(
        [task for task in desk.chat.tasks() if task in ("route", "enhance", "decompose", "complete")]
    )


@pytest.mark.parametrize("skills", ["code", "others"])
async def test_skill_that_needs_the_requirements_is_given_them(skills: str, desk: Desk) -> None:
    seen: list[bool] = []

    async def late(asked: Asked) -> Any:
        # Long enough for whoever does not wait.
        for _ in range(20):
            await asyncio.sleep(0.01)
        seen.append(bool(desk.chat.about("enhance")))
        return LISTED

    desk.chat.script["decompose"] = late
    output = await carried_out(desk, compiled(), skills=skills)
    assert (output["stop_reason"], seen) == ("passed", [False])
    assert desk.chat.tasks().count("decompose") == 1


async def test_paper_lists_before_it_draws(desk: Desk) -> None:
    desk.chat.script["verify"] = "Yes."
    seen: list[int] = []

    def asked_when(asked: Asked) -> Any:
        seen.append(len(desk.generator.requests))
        return LISTED

    desk.chat.script["decompose"] = asked_when
    await carried_out(desk, profile="paper", skills="none")
    assert seen == [0]


async def test_run_that_breaks_while_drawing_pays_nothing_twice(desk: Desk) -> None:
    listed = asyncio.Event()

    def answer(asked: Asked) -> Any:
        listed.set()
        return LISTED

    async def broken(request: ImageRequest) -> None:
        await asyncio.wait_for(listed.wait(), PATIENCE_S)
        raise RuntimeError("broken")

    desk.chat.script["decompose"] = answer
    desk.generator.before = broken
    graph = compiled()
    with pytest.raises(Exception, match="broken"):
        await carried_out(desk, graph)
    desk.generator.before = None
    # What another process began is found in the ledger only.
    await desk.context.end_ahead()
    output = await graph.ainvoke(None, config(), context=desk.context)
    assert output["stop_reason"] == "passed"
    assert desk.chat.tasks().count("decompose") == desk.chat.tasks().count("complete") == 1
    assert output["usage"]["planner"]["calls"] == 3


async def test_second_prompt_of_a_thread_is_listed_anew(desk: Desk) -> None:
    graph = compiled()
    await carried_out(desk, graph)
    desk.chat.script["decompose"] = requirements("Is there a dog?")
    output = await carried_out(desk, graph, prompt="a dog")
    assert [item["question"] for item in output["requirements"]] == ["Is there a dog?"]


async def test_image_is_kept_whose_requirements_cannot_be_listed(tmp_path: Path) -> None:
    chat, generator = ScriptedChat(), FlatGenerator()
    order = Order(chat, generator)

    async def gone(asked: Asked) -> Any:
        await order.list_late(asked)
        raise UnreachableError("gone")

    chat.script["decompose"] = gone
    async with Gems(settings_at(tmp_path), chat=chat, generator=generator, skills=[GUIDANCE]) as gems:
        result = await gems.run("a red cat", seed=7)
        assert (result.stop_reason, result.failure and result.failure["error"]) == ("failed", "UnreachableError")
        assert [item.question for item in result.requirements] == ["Does this image show: a red cat?"]
        chat.script["decompose"] = LISTED
        resumed = await gems.resume(result.run_id)
    assert (resumed.stop_reason, len(resumed.requirements)) == ("passed", 2)
    assert len(generator.requests) == 1


async def test_nothing_is_drawn_where_it_is_known_that_nothing_can_be_listed(desk: Desk) -> None:
    listed = asyncio.Event()

    def gone(asked: Asked) -> Any:
        listed.set()
        raise UnreachableError("gone")

    async def enhance(asked: Asked) -> Any:
        await asyncio.wait_for(listed.wait(), PATIENCE_S)
        while not any(job.task.done() for job in desk.context.ahead.values()):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0)
        return {"skills": []}

    desk.chat.script |= {"decompose": gone, "route": enhance}
    with pytest.raises(UnreachableError):
        await carried_out(desk, skills="auto")
    assert desk.generator.requests == []


async def test_nothing_is_drawn_before_an_endpoint_has_answered_once(desk: Desk) -> None:
    desk.context.chats["planner"].has_answered = False
    drawn: list[int] = []

    async def gone(asked: Asked) -> Any:
        # Long enough for whoever does not wait.
        for _ in range(20):
            await asyncio.sleep(0.01)
        drawn.append(len(desk.generator.requests))
        raise AuthenticationError("wrong key")

    desk.chat.script["decompose"] = gone
    with pytest.raises(AuthenticationError):
        await carried_out(desk, skills="none")
    assert drawn == [0]


async def test_run_that_fails_leaves_nothing_running(tmp_path: Path) -> None:
    chat = ScriptedChat()
    ended: list[bool] = []
    is_listing = asyncio.Event()

    async def hang(asked: Asked) -> Any:
        is_listing.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def gone(asked: Asked) -> Any:
        await asyncio.wait_for(is_listing.wait(), PATIENCE_S)
        raise UnreachableError("gone")

    chat.script |= {"decompose": hang, "route": gone}
    async with Gems(settings_at(tmp_path), chat=chat, generator=FlatGenerator(), skills=[GUIDANCE]) as gems:
        with pytest.raises(UnreachableError):
            await gems.run("a red cat", seed=7)
        assert ended == [True]
