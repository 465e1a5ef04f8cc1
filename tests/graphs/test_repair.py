"""Runs that mend their best image."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from gems.errors import UnalignedEditError
from gems.generation import ImageRequest
from tests.support.graph_runs import carried_out
from tests.support.scripted_models import Asked, Desk, checks
from tests.support.stub.models import edited_picture

BOX = [0, 0, 500, 500]


@pytest.fixture
def editing_desk(desk: Desk) -> Desk:
    desk.generator.capabilities = replace(desk.generator.capabilities, editing=True, inpainting=True)
    desk.generator.paint = edited_picture
    return desk


def check_with_box(*said: str) -> dict[str, Any]:
    answer = checks(*said)
    for item in answer["answers"]:
        if item["answer"] == "no":
            item["box"] = BOX
    return answer


def changes(desk: Desk) -> list[ImageRequest]:
    return [request for request in desk.generator.requests if request.source is not None]


async def test_best_image_is_mended_where_the_fault_is(editing_desk: Desk) -> None:
    editing_desk.chat.script["checklist"] = [check_with_box("yes", "no"), checks("yes", "yes"), checks("yes", "yes")]
    output = await carried_out(editing_desk, repair="always")
    assert (output["stop_reason"], output["best_round"]) == ("passed", 2)
    first, second = output["rounds"]
    assert first["action"] == "draw"
    assert {name: second[name] for name in ("action", "parent", "boxes", "repaired")} == {
        "action": "inpaint",
        "parent": first["candidates"][0]["image"],
        "boxes": [BOX],
        "repaired": ["r2"],
    }
    (request,) = changes(editing_desk)
    assert request.source == await editing_desk.context.images.load(second["parent"])
    mask = Image.open(io.BytesIO(request.mask or b""))
    assert (mask.size, mask.getbbox()) == ((64, 64), (0, 0, 37, 37))
    assert second["instruction"] in request.prompt
    assert "The whole picture shows: a red cat" in request.prompt


async def test_reflector_is_shown_the_image_and_its_fault(editing_desk: Desk) -> None:
    editing_desk.chat.script["checklist"] = [check_with_box("yes", "no"), checks("yes", "yes"), checks("yes", "yes")]
    editing_desk.chat.script["verify"] = ["no", "yes", "yes"]
    output = await carried_out(editing_desk, repair="always")
    (asked,) = editing_desk.chat.about("mend")
    assert asked.tag("fault") == "Is it red? - seen 2 (at [0, 0, 500, 500])"
    assert len(asked.pictures) == 1
    assert output["experiences"][0]["next_prompt"] == "a red cat more"


async def test_worse_change_is_not_built_upon(editing_desk: Desk) -> None:
    editing_desk.chat.script["checklist"] = [
        checks("yes", "no"), checks("no", "no"), checks("yes", "yes"), checks("yes", "yes"),
    ]  # fmt: skip
    output = await carried_out(editing_desk, repair="always")
    assert output["stop_reason"] == "passed"
    assert [turn["parent"] for turn in output["rounds"][1:]] == [output["rounds"][0]["candidates"][0]["image"]] * 2


async def test_reply_without_instruction_names_the_fault(editing_desk: Desk) -> None:
    def unusable(_asked: Asked) -> str:
        return "I would rather not."

    editing_desk.chat.script |= {"mend": unusable, "verify": "no"}
    editing_desk.chat.script["checklist"] = [checks("yes", "no"), checks("yes", "yes"), checks("yes", "yes")]
    output = await carried_out(editing_desk, repair="always")
    assert "the answer is yes: Is it red? - seen 2" in output["rounds"][1]["instruction"]


async def test_change_that_cannot_be_aligned_is_drawn_anew(editing_desk: Desk) -> None:
    async def refuse(request: ImageRequest) -> None:
        if request.source is not None:
            raise UnalignedEditError("The edited image is another one.")

    editing_desk.generator.before = refuse
    editing_desk.chat.script["checklist"] = [checks("yes", "no"), checks("yes", "yes"), checks("yes", "yes")]
    editing_desk.chat.script["verify"] = "no"
    editing_desk.chat.script["verify"] = ["no", "yes", "yes"]
    output = await carried_out(editing_desk, repair="always")
    assert output["stop_reason"] == "passed"
    assert output["rounds"][1]["action"] == "redraw"
    assert any("another one" in warning for warning in output["warnings"])


async def test_same_run_repeats_its_choices(editing_desk: Desk) -> None:
    editing_desk.chat.script["checklist"] = check_with_box("yes", "no")
    editing_desk.chat.script["verify"] = "no"
    first = await carried_out(editing_desk, max_rounds=6, plateau=0)
    again = await carried_out(editing_desk, max_rounds=6, plateau=0)
    actions = [turn["action"] for turn in first["rounds"]]
    assert actions == [turn["action"] for turn in again["rounds"]]
    assert {"redraw", "edit", "inpaint"} & set(actions[1:])


async def test_paper_never_mends(editing_desk: Desk) -> None:
    editing_desk.chat.script["verify"] = "no"
    output = await carried_out(editing_desk, repair="always", profile="paper")
    assert not changes(editing_desk)
    assert {turn["action"] for turn in output["rounds"][1:]} == {"redraw"}
