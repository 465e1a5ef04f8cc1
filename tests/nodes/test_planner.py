"""Skills chosen by the model or the user, and prompts made better."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gems.errors import ModelUnavailableError, OptionError, RejectedRequestError, UnreachableError
from gems.nodes.begin import begin
from gems.nodes.planner import choose_skills, parse_skill_names, plan
from gems.nodes.rewrite import enhance
from gems.skills.models import Skill, SkillRegistry
from gems.state import State
from tests.support.scripted_models import Desk, opened_desk

SKILLS = [
    Skill(name=name, description=f"For {name}\nthings.", body=f"BODY {name}")
    for name in ("aesthetic-drawing", "creative-drawing", "spatial", "text-rendering")
]


@pytest_asyncio.fixture
async def skilled(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened_desk(tmp_path / "home", skills=SKILLS) as desk:
        yield desk


async def test_only_names_and_descriptions_are_shown(skilled: Desk) -> None:
    await choose_skills("a cat", "auto", skilled.work())
    (asked,) = skilled.chat.asked
    assert asked.tag("skills").splitlines()[2] == "spatial: For spatial things."
    assert "BODY" not in asked.text


@pytest.mark.parametrize(
    ("answer", "chosen"),
    [
        ({"skills": ["spatial"], "why": "x"}, ["spatial"]),
        ({"skills": ["Spatial.", "SPATIAL", "text_rendering"]}, ["spatial", "text-rendering"]),
        ("SKILL_ID: spatial", ["spatial"]),
        ("none", []),
        ({"skills": [skill.name for skill in SKILLS]}, [skill.name for skill in SKILLS[:3]]),
    ],
)
async def test_models_choice_is_read(skilled: Desk, answer: Any, chosen: list[str]) -> None:
    skilled.chat.script["route"] = answer
    work = skilled.work()
    assert (await choose_skills("a cat", "auto", work))["skills"] == chosen
    assert work.warnings == []


async def test_skill_that_does_not_exist_is_told_about(skilled: Desk) -> None:
    skilled.chat.script["route"] = {"skills": ["cooking", "spatial"]}
    work = skilled.work()
    assert (await choose_skills("a cat", "auto", work))["skills"] == ["spatial"]
    assert "cooking" in work.warnings[0]


@pytest.mark.parametrize(
    "answer", [RejectedRequestError("no"), "I think that maybe we could use\nseveral things here."]
)
async def test_unusable_choice_costs_no_run(skilled: Desk, answer: Any) -> None:
    skilled.chat.script["route"] = answer
    work = skilled.work()
    chosen = await choose_skills("a cat", "auto", work)
    assert (chosen["skills"], chosen["prompt"]) == ([], "a cat")
    assert len(work.warnings) == 1


@pytest.mark.parametrize("error", [UnreachableError("gone"), ModelUnavailableError("no such model")])
async def test_unreachable_planner_ends_the_run(skilled: Desk, error: Exception) -> None:
    skilled.chat.script |= {"route": error, "enhance": error}
    with pytest.raises(type(error)):
        await choose_skills("a cat", "auto", skilled.work())
    with pytest.raises(type(error)):
        await enhance("a cat", "Be vivid.", skilled.work())


@pytest.mark.parametrize(("heeds", "given", "warnings"), [(False, "blur", 1), (True, "blur", 0), (False, "", 0)])
async def test_negative_prompt_that_is_not_heeded_is_told(desk: Desk, heeds: bool, given: str, warnings: int) -> None:
    desk.generator.capabilities = replace(desk.generator.capabilities, negative_prompts=heeds)
    asked: State = {"prompt": "a cat", "negative_prompt": given}
    work = desk.work()
    await plan(asked | await begin(asked, desk.work()), work)
    assert work.warnings == ["flat takes no negative prompt: what is given makes no difference."] * warnings


async def test_nobody_is_asked_where_the_choice_is_made(skilled: Desk, desk: Desk) -> None:
    assert (await choose_skills("a cat", "none", skilled.work()))["skills"] == []
    named = await choose_skills("a cat", "spatial, text", skilled.work())
    assert named["skills"] == ["spatial", "text-rendering"]
    assert skilled.chat.asked == []
    await choose_skills("a cat", "auto", desk.work())
    assert desk.chat.asked == []
    await choose_skills("a cat", "auto", desk.work(profile="paper"))
    assert desk.chat.tasks() == ["route"]


def test_names_that_cannot_be_used_are_refused() -> None:
    registry = SkillRegistry(SKILLS)
    with pytest.raises(OptionError, match="spatial, text-rendering"):
        parse_skill_names("cooking", registry)
    with pytest.raises(OptionError, match="at most 3"):
        parse_skill_names(",".join(skill.name for skill in SKILLS), registry)
    with pytest.raises(OptionError, match="none yet"):
        parse_skill_names("spatial", SkillRegistry())
    assert parse_skill_names(" spatial ,, spatial", registry) == ["spatial"]


async def test_enhanced_prompt_is_taken(desk: Desk) -> None:
    assert await enhance("a cat", "Be vivid.", desk.work()) == "better a cat"
    assert desk.chat.asked[0].tag("skill") == "Be vivid."


@pytest.mark.parametrize("answer", [{"prompt": "  "}, RejectedRequestError("no"), "no JSON at all"])
async def test_prompt_stays_where_none_better_comes(desk: Desk, answer: Any) -> None:
    desk.chat.script["enhance"] = answer
    work = desk.work()
    assert await enhance("a cat", "Be vivid.", work) == "a cat"
    assert bool(work.warnings) == (answer != {"prompt": "  "})


async def test_plan_sets_the_first_prompt(desk: Desk) -> None:
    given: State = {"prompt": " a cat ", "seed": 3}
    update = await plan(given | await begin(given, desk.work()), desk.work())
    assert update["current_prompt"] == " a cat "
    assert desk.told("planned")[0]["plan"] == update["plan"]
