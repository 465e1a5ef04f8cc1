"""Skills as subgraphs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from gems.errors import RejectedRequestError
from gems.skills.skill import Skill
from tests.graphs.running import carried_out, compiled, config
from tests.scripted import Desk, opened_desk

SKILLS = [
    Skill(name=name, description=f"For {name}.", body=f"The body of {name}.") for name in ("spatial", "text")
]


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened_desk(tmp_path / "home", skills=SKILLS) as desk:
        yield desk


async def test_chosen_skill_makes_the_drawn_prompt_better(desk: Desk) -> None:
    desk.chat.script["route"] = {"skills": ["spatial"], "why": "It is about places."}
    output = await carried_out(desk, compiled(SKILLS))
    assert desk.generator.requests[0].prompt == "better a red cat"
    (enhance,) = desk.chat.about("enhance")
    assert enhance.tag("skill") == "The body of spatial."
    assert output["final_prompt"] == "better a red cat"
    assert output["usage"]["planner"]["calls"] == 4


async def test_requirements_come_from_the_users_prompt(desk: Desk) -> None:
    desk.chat.script["route"] = {"skills": ["spatial"]}
    await carried_out(desk, compiled(SKILLS))
    assert desk.chat.about("decompose")[0].tag("user_prompt") == "a red cat"


async def test_several_skills_work_one_after_another(desk: Desk) -> None:
    await carried_out(desk, compiled(SKILLS), skills="text,spatial")
    assert [asked.tag("skill") for asked in desk.chat.about("enhance")] == [
        "The body of text.",
        "The body of spatial.",
    ]
    assert desk.generator.requests[0].prompt == "better better a red cat"


async def test_no_skill_is_loaded_that_was_not_chosen(desk: Desk) -> None:
    await carried_out(desk, compiled(SKILLS))
    assert desk.chat.about("enhance") == []
    assert desk.generator.requests[0].prompt == "a red cat"


async def test_warning_within_a_skill_is_told_and_kept(desk: Desk) -> None:
    desk.chat.script["enhance"] = RejectedRequestError("not like this")
    output = await carried_out(desk, compiled(SKILLS), skills="spatial")
    assert desk.generator.requests[0].prompt == "a red cat"
    assert "not like this" in output["warnings"][0]
    assert [event["message"] for event in desk.told("warning")] == output["warnings"]


async def test_steps_within_a_skill_can_be_streamed(desk: Desk) -> None:
    given: Any = {"prompt": "a red cat", "seed": 7, "skills": "spatial"}
    stream = compiled(SKILLS).astream(
        given, config(), context=desk.context, stream_mode="updates", subgraphs=True
    )
    inner = [list(update) async for path, update in stream if path and path[0].startswith("skill_spatial:")]
    assert inner == [["load"], ["enhance"], ["keep"]]


async def test_finished_enhancement_is_not_paid_again(desk: Desk) -> None:
    await carried_out(desk, compiled(SKILLS), skills="spatial", run_id="run")
    await carried_out(desk, compiled(SKILLS), skills="spatial", run_id="run")
    assert len(desk.chat.about("enhance")) == 1
    assert len(desk.generator.requests) == 1
