"""Skills as models name them, well and badly."""

from __future__ import annotations

from pathlib import Path

import pytest

from gems.skills.models import Skill
from tests.support.chat_script import PROMPT, asks_for, opened, tasks
from tests.support.stub import Fault, StubServer

SIZE = "64x64"
SPATIAL = Skill(name="spatial-layout", description="Where things stand.", body="Say where each thing stands.")


@pytest.mark.parametrize(
    "said",
    [
        "Spatial.",
        "SKILL_ID: spatial",
        "**spatial_layout**",
        "`Spatial Layout`",
        '{"skills": ["spatial-layout"], "why": "rows"}',
        '```json\n{"skills": ["Spatial"]}\n```',
        '<think>Rows, so spatial.</think>{"skills": ["spatial-layout"]}',
    ],
)
async def test_a_skill_is_understood_however_it_is_named(said: str, stub: StubServer, home: Path) -> None:
    stub.fault(Fault.reply(said), when=asks_for("route"))
    async with opened(stub, home, skills=(SPATIAL,)) as gems:
        result = await gems.run(PROMPT, size=SIZE)
    assert result.plan is not None
    assert result.plan["skills"] == ["spatial-layout"]
    assert result.final_prompt == f"{PROMPT}, arranged in rows"
    assert result.warnings == []
    assert tasks(stub).count("enhance") == 1


async def test_an_unknown_skill_is_told_and_left_out(stub: StubServer, home: Path) -> None:
    stub.fault(Fault.reply('{"skills": ["watercolour"]}'), when=asks_for("route"))
    async with opened(stub, home, skills=(SPATIAL,)) as gems:
        result = await gems.run(PROMPT, size=SIZE)
    assert result.plan is not None
    assert (result.plan["skills"], result.final_prompt) == ([], PROMPT)
    assert [warning for warning in result.warnings if "'watercolour'" in warning]


@pytest.mark.parametrize("task", ["route", "enhance"])
async def test_a_broken_planner_costs_the_skill_and_no_more(task: str, stub: StubServer, home: Path) -> None:
    stub.fault(Fault("500"), when=asks_for(task))
    stub.fault(Fault.reply("spatial"), when=asks_for("route"))
    async with opened(stub, home, skills=(SPATIAL,)) as gems:
        result = await gems.run(PROMPT, size=SIZE)
    assert (result.stop_reason, result.final_prompt) == ("passed", PROMPT)
    assert len(result.warnings) == 1
