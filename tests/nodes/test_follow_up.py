"""What the newest message of a conversation asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gems.errors import RequestError
from gems.nodes.follow_up import Intent, Turn, read_intent
from tests.support.scripted_models import Desk, opened_desk

TALK = [
    Turn(True, "a red cat"),
    Turn(False, "Round 1 is best.", ("first",)),
    Turn(True, "a blue dog\nin the rain"),
    Turn(False, "Round 1 is best.", ("second",)),
]


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened_desk(tmp_path) as opened:
        opened.generator.capabilities = replace(opened.generator.capabilities, editing=True)
        yield opened


def answers(desk: Desk, kind: str, picture: Any = 0, instruction: str = "", prompt: str = "") -> None:
    desk.chat.script["follow"] = {"kind": kind, "picture": picture, "instruction": instruction, "prompt": prompt}


async def intent(desk: Desk, *turns: Turn) -> Intent:
    return await read_intent(turns, desk.work(run_id=""))


async def test_a_first_message_is_the_request_itself(desk: Desk) -> None:
    assert await intent(desk, Turn(True, "a red cat")) == Intent("a red cat")
    assert await intent(desk, Turn(True, "make it green", ("photo",))) == Intent("make it green", "photo")
    # The attached picture is meant, whatever came before.
    assert await intent(desk, *TALK, Turn(True, "make it green", ("photo",))) == Intent("make it green", "photo")
    assert desk.chat.asked == []


async def test_the_model_reads_the_conversation_with_numbered_pictures(desk: Desk) -> None:
    await intent(desk, *TALK, Turn(True, "the second one, but green"))
    (asked,) = desk.chat.about("follow")
    assert asked.lines("conversation") == [
        "Person: a red cat",
        "Program (picture 1):",
        "Person: a blue dog in the rain",
        "Program (picture 2):",
        "Person: the second one, but green",
    ]
    assert asked.tag("user_prompt") == "the second one, but green"


async def test_a_request_of_its_own_stays_as_it_was_written(desk: Desk) -> None:
    answers(desk, "new", prompt="a house, beautifully lit")
    assert await intent(desk, *TALK, Turn(True, "a house")) == Intent("a house")


@pytest.mark.parametrize(
    ("picture", "meant"), [(1, "first"), (2, "second"), (0, "second"), (9, "second"), ("picture 1", "first")]
)
async def test_a_change_is_an_edit_of_the_picture_that_is_meant(desk: Desk, picture: Any, meant: str) -> None:
    answers(desk, "change", picture, "make the dog green", "a green dog in the rain")
    assert await intent(desk, *TALK, Turn(True, "now make it green")) == Intent("make the dog green", meant)


async def test_a_change_where_nothing_can_be_edited_is_one_prompt(desk: Desk) -> None:
    desk.generator.capabilities = replace(desk.generator.capabilities, editing=False)
    answers(desk, "change", 2, "make the dog green", "a green dog in the rain")
    assert await intent(desk, *TALK, Turn(True, "now make it green")) == Intent("a green dog in the rain")
    answers(desk, "change", 2, "make the dog green")
    joined = Intent("a blue dog\nin the rain\nnow make it green")
    assert await intent(desk, *TALK, Turn(True, "now make it green")) == joined


async def test_again_is_drawn_anew(desk: Desk) -> None:
    answers(desk, "Again", 2, prompt="rain")
    assert await intent(desk, *TALK, Turn(True, "again, without the dog")) == Intent("rain")


async def test_a_request_that_was_not_drawn_is_followed_up_too(desk: Desk) -> None:
    answers(desk, "change", 0, "make the cat green", "a green cat")
    turns = [Turn(True, "a red cat"), Turn(False, "Error: too busy.")]
    assert await intent(desk, *turns, Turn(True, "now make it green")) == Intent("a green cat")


async def test_one_of_several_attached_pictures(desk: Desk) -> None:
    answers(desk, "change", 2, "make the sky green")
    newest = Turn(True, "make the sky of the second one green", ("a", "b"))
    assert await intent(desk, newest) == Intent("make the sky green", "b")
    for unclear in ("change", "new"):
        answers(desk, unclear)
        with pytest.raises(RequestError, match="2 pictures are attached"):
            await intent(desk, newest)


async def test_an_answer_that_cannot_be_read_is_told(desk: Desk) -> None:
    desk.chat.script["follow"] = "I would say that it is green."
    found = await intent(desk, *TALK, Turn(True, "now make it green"))
    assert (found.prompt, found.picture) == ("now make it green", None)
    assert "could not be told" in found.warning


async def test_of_a_long_conversation_the_newest_is_read(desk: Desk) -> None:
    answers(desk, "change", 60, "make it green")
    turns = [turn for n in range(60) for turn in (Turn(True, "x" * 5000), Turn(False, "", (f"picture {n}",)))]
    assert await intent(desk, *turns, Turn(True, "now make it green")) == Intent("make it green", "picture 59")
    (asked,) = desk.chat.about("follow")
    assert asked.lines("conversation")[0].startswith(("Person: x", "Program (picture 41)"))
    assert len(asked.text) < 50_000
