"""Runs in which a person decides after each round."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import Any

import pytest
from langgraph.types import Command
from PIL import Image

from gems.models.images import encode_png
from gems.types import DecisionRequest
from tests.support.graph_runs import carried_out, compiled, config
from tests.support.scripted_models import Desk, checks
from tests.support.stub.models import edited_picture, flat_picture

EVERY_LOOK = {"verify": "no"}


@pytest.fixture
def editing_desk(desk: Desk) -> Desk:
    desk.generator.capabilities = replace(desk.generator.capabilities, editing=True, inpainting=True)
    desk.generator.paint = edited_picture
    desk.chat.script |= EVERY_LOOK
    return desk


def mask_of(size: tuple[int, int], box: tuple[int, int, int, int]) -> str:
    picture = Image.new("L", size, 0)
    picture.paste(255, box)
    return base64.b64encode(encode_png(picture)).decode()


class Talk:
    """A run, and the person who answers its questions."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.graph = desk, compiled()

    async def begin(self, **given: Any) -> DecisionRequest:
        await carried_out(self.desk, self.graph, ask=True, **given)
        return await self.question()

    async def question(self) -> DecisionRequest:
        (asked,) = (await self.graph.aget_state(config())).interrupts
        request: DecisionRequest = asked.value
        return request

    async def answer(self, decision: Any) -> dict[str, Any]:
        (asked,) = (await self.graph.aget_state(config())).interrupts
        resumed: Command[Any] = Command(resume={asked.id: decision})
        found: dict[str, Any] = await self.graph.ainvoke(resumed, config(), context=self.desk.context)
        return found


async def test_question_says_what_is_unmet_and_what_may_be_chosen(editing_desk: Desk) -> None:
    editing_desk.chat.script["checklist"] = checks("yes", "no")
    asked = await Talk(editing_desk).begin(repair="never")
    assert (asked["round"], asked["next"], asked["fault"]) == (1, "redraw", "")
    assert [answer["requirement"] for answer in asked["unmet"]] == ["r2"]
    assert [choice["image"] for choice in asked["choices"]] == [asked["image"]]
    assert "Is it red?" in asked["question"]


async def test_person_changes_an_image_within_a_mask(editing_desk: Desk) -> None:
    editing_desk.chat.script["checklist"] = checks("yes", "no")
    talk = Talk(editing_desk)
    first = await talk.begin(repair="never")
    mask = mask_of((64, 64), (8, 8, 24, 24))
    state = await talk.answer({"parent": first["image"], "mask": mask, "instruction": "Paint the cat red."})
    turn = state["rounds"][-1]
    assert (turn["action"], turn["parent"], turn["by"]) == ("inpaint", first["image"], "person")
    assert (turn["instruction"], turn["repaired"]) == ("Paint the cat red.", ["r2"])
    request = editing_desk.generator.requests[-1]
    assert request.prompt.startswith("Paint the cat red.")
    assert Image.open(io.BytesIO(request.mask or b"")).getbbox() == (8, 8, 24, 24)
    assert await editing_desk.context.images.load(turn["mask"]) == request.mask
    assert (await talk.question())["round"] == 2
    assert editing_desk.chat.about("mend") == editing_desk.chat.about("reflect") == []


async def test_text_is_an_instruction(editing_desk: Desk) -> None:
    editing_desk.chat.script["checklist"] = checks("yes", "no")
    talk = Talk(editing_desk)
    await talk.begin()
    state = await talk.answer("make it red")
    assert {name: state["rounds"][-1][name] for name in ("action", "instruction", "by")} == {
        "action": "edit",
        "instruction": "make it red",
        "by": "person",
    }


async def test_redraw_appends_what_is_wanted(editing_desk: Desk) -> None:
    editing_desk.chat.script["checklist"] = checks("yes", "no")
    talk = Talk(editing_desk)
    await talk.begin()
    state = await talk.answer({"action": "redraw", "instruction": "The cat is red all over."})
    turn = state["rounds"][-1]
    assert turn["action"] == "redraw"
    assert turn["prompt"].endswith(". The cat is red all over.")
    assert editing_desk.chat.about("reflect") == []


async def test_accepted_image_ends_the_run_whatever_it_lacks(editing_desk: Desk) -> None:
    editing_desk.chat.script["checklist"] = [checks("yes", "no"), checks("no", "no")]
    talk = Talk(editing_desk)
    await talk.begin()
    await talk.answer("make it red")
    second = await talk.question()
    output = await talk.answer("accept")
    assert (output["stop_reason"], output["best_round"], output["image"]) == ("accepted", 2, second["image"])
    assert output["rounds"][1]["taken"] is True


async def test_image_that_is_taken_back_is_not_built_upon(editing_desk: Desk) -> None:
    editing_desk.chat.script["checklist"] = [checks("no", "no"), checks("yes", "no"), checks("yes", "no")]
    talk = Talk(editing_desk)
    first = await talk.begin(repair="always")
    await talk.answer("make it red")
    await talk.answer("undo")
    again = await talk.question()
    assert again["round"] == 2
    assert [choice["image"] for choice in again["choices"]] == [first["image"]]
    state = await talk.answer("continue")
    assert [turn.get("taken") for turn in state["rounds"]] == [None, False, None]
    assert state["rounds"][2]["parent"] == first["image"]


async def test_passed_image_is_shown_before_the_run_ends(desk: Desk) -> None:
    talk = Talk(desk)
    assert (await talk.begin())["next"] == "accept"
    output = await talk.answer("continue")
    assert output["stop_reason"] == "passed"


async def test_accepting_what_passed_has_passed(desk: Desk) -> None:
    talk = Talk(desk)
    await talk.begin()
    assert (await talk.answer("accept"))["stop_reason"] == "passed"


async def test_person_goes_on_past_the_last_round(editing_desk: Desk) -> None:
    editing_desk.chat.script["checklist"] = checks("yes", "no")
    talk = Talk(editing_desk)
    assert (await talk.begin(max_rounds=1))["next"] == "accept"
    state = await talk.answer("make it red")
    assert len(state["rounds"]) == 2
    assert (await talk.answer("continue"))["stop_reason"] == "max_rounds"


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ({"action": "erase"}, "no action 'erase'"),
        ({"parent": "f" * 64}, "no image of this run"),
        ({"mask": "?", "instruction": "x"}, "not valid base64"),
        ({"mask": mask_of((32, 32), (0, 0, 8, 8)), "instruction": "x"}, "32x32"),
        ({"mask": mask_of((64, 64), (0, 0, 0, 0)), "instruction": "x"}, "selects nothing"),
        ({"mask": "f" * 64, "instruction": "x"}, "not a complete image"),
        ({"action": "undo"}, "no other image"),
        ({"instruction": 3}, "no text"),
        ({"instruction": "x" * 2_001}, "2,000 characters"),
        ({"colour": "red"}, "'colour'"),
        (["edit"], "list"),
        ('{"action"', "not valid JSON"),
    ],
)
async def test_answer_that_cannot_be_carried_out_is_asked_for_again(
    editing_desk: Desk, answer: Any, fault: str
) -> None:
    editing_desk.chat.script["checklist"] = checks("yes", "no")
    talk = Talk(editing_desk)
    first = await talk.begin()
    await talk.answer(answer)
    again = await talk.question()
    assert fault in again["fault"]
    assert again["question"].startswith(again["fault"])
    assert again | {"fault": "", "question": ""} == first | {"question": ""}
    assert len(editing_desk.generator.requests) == 1


async def test_generator_that_cannot_edit_says_so(desk: Desk) -> None:
    desk.chat.script |= EVERY_LOOK | {"checklist": checks("yes", "no")}
    talk = Talk(desk)
    await talk.begin()
    await talk.answer("make it red")
    assert "cannot edit" in (await talk.question())["fault"]


async def test_image_that_is_gone_is_told(editing_desk: Desk) -> None:
    editing_desk.chat.script["checklist"] = checks("yes", "no")
    talk = Talk(editing_desk)
    first = await talk.begin()
    editing_desk.context.images.path(first["image"]).unlink()
    await talk.answer("make it red")
    assert "is gone" in (await talk.question())["fault"]


async def test_what_a_person_asked_for_wins_a_tie(editing_desk: Desk) -> None:
    talk = Talk(editing_desk)
    await talk.begin()
    await talk.answer("make the sky darker")
    output = await talk.answer("continue")
    assert (output["stop_reason"], output["best_round"]) == ("passed", 2)


async def test_person_whose_change_fails_is_asked_again(editing_desk: Desk) -> None:
    editing_desk.chat.script["checklist"] = checks("yes", "no")
    talk = Talk(editing_desk)
    first = await talk.begin(repair="never")
    # Outside the mask, this has nothing to do with the parent.
    editing_desk.generator.paint = flat_picture
    wanted = {"mask": mask_of((64, 64), (8, 8, 24, 24)), "instruction": "make it red"}
    await talk.answer(wanted)
    again = await talk.question()
    assert "cannot be aligned" in again["fault"]
    assert (again["round"], again["next"]) == (1, "redraw")
    editing_desk.generator.paint = edited_picture
    state = await talk.answer(wanted | {"instruction": "make it bright red"})
    assert state["rounds"][-1]["parent"] == first["image"]
    assert (await talk.answer("accept"))["stop_reason"] == "accepted"
