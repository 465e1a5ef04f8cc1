"""What the built-in skills do in a run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gems.models.blocks import BlocksDetector
from gems.nodes import context
from gems.nodes.planner import choose_skills
from gems.results import RunResult
from gems.service import Gems
from gems.skills import authoring
from gems.skills.discovery import BUILTIN, read_skill
from gems.skills.lettering import RapidReader
from gems.skills.models import Skill
from tests.support.chat_script import opened, tasks
from tests.support.scripted_models import (
    Asked,
    FlatGenerator,
    ScriptedChat,
    checks,
    opened_desk,
    requirements,
    settings_at,
)
from tests.support.stub import StubServer
from tests.support.text_images import chinese_font, drawn

NAMES = sorted(folder.name for folder in BUILTIN.iterdir() if (folder / "SKILL.md").exists())
PLAIN = ["aesthetic-drawing", "counting-and-binding", "creative-drawing", "spatial-layout"]
SIGN = 'A shop sign that says "GRAND OPENING TODAY"'


def builtin(name: str) -> Skill:
    found = read_skill(BUILTIN / name, "built-in", trusted=True)
    assert isinstance(found, Skill), found
    return found


@asynccontextmanager
async def service(
    home: Path, chat: ScriptedChat, pictures: Sequence[bytes] = (), *skills: str
) -> AsyncIterator[tuple[Gems, FlatGenerator]]:
    """A service whose generator draws these pictures, one a round, and the last one from there on."""
    generator = FlatGenerator()
    if pictures:
        generator.paint = lambda request: pictures[min(len(generator.requests), len(pictures)) - 1]
    chosen = [builtin(name) for name in skills]
    async with Gems(settings_at(home), chat=chat, generator=generator, skills=chosen) as gems:
        yield gems, generator


def test_there_are_the_six_of_them() -> None:
    assert sorted([*PLAIN, "knowledge-grounding", "text-rendering"]) == NAMES
    assert [name for name in NAMES if builtin(name).code] == [
        "counting-and-binding",
        "knowledge-grounding",
        "spatial-layout",
        "text-rendering",
    ]
    assert [finding for name in NAMES for finding in builtin(name).findings] == []


@pytest.mark.parametrize("name", NAMES)
async def test_chosen_by_the_planner_it_guides_the_prompt(name: str, tmp_path: Path) -> None:
    chat = ScriptedChat()
    chat.script["route"] = {"skills": [name], "why": "It fits."}
    async with service(tmp_path, chat, (), *NAMES) as (gems, generator):
        result = await gems.run("a red cat", seed=7)
    (asked,) = chat.about("enhance")
    assert asked.tag("skill").startswith("# ")
    assert builtin(name).description not in asked.tag("skill")
    assert generator.requests[0].prompt == "better a red cat"
    assert [(use["name"], use["fault"]) for use in result.skill_uses] == [(name, "")]
    assert (result.passed, result.warnings) == (True, [])


async def test_the_planner_sees_descriptions_and_no_guidance(tmp_path: Path) -> None:
    skills = [builtin(name) for name in NAMES]
    async with opened_desk(tmp_path, skills=skills) as desk:
        plan = await choose_skills("a red cat", "auto", desk.work())
        (asked,) = desk.chat.about("route")
    assert plan["skills"] == []
    assert len(asked.lines("skills")) == 6
    assert "When not" not in asked.text


@pytest.mark.parametrize("name", PLAIN)
async def test_what_a_skill_drops_is_put_back(name: str, tmp_path: Path) -> None:
    chat = ScriptedChat()
    chat.script["enhance"] = {"prompt": "a dreamlike landscape"}
    async with service(tmp_path, chat, (), name) as (gems, generator):
        await gems.run("a red cat", seed=7, skills=name)
    assert generator.requests[0].prompt == "a red cat\na dreamlike landscape"
    assert "keep" not in chat.tasks()


async def test_counting_states_each_group_in_the_built_in_world(tmp_path: Path) -> None:
    prompt = "three red circles, two green stars and four blue squares"
    async with Gems(settings_at(tmp_path), skills=[builtin(name) for name in NAMES]) as gems:
        result = await gems.run(prompt, seed=7, max_rounds=1)
    assert result.plan is not None
    assert result.plan["skills"] == ["counting-and-binding"]
    assert result.rounds[0]["prompt"].startswith(prompt)
    assert "Exactly two green stars." in result.rounds[0]["prompt"]


@pytest.mark.parametrize("prompt", ["a red circle", "two green stars left of a blue square"])
async def test_a_plain_prompt_is_left_alone(prompt: str, tmp_path: Path) -> None:
    async with Gems(settings_at(tmp_path)) as gems:
        result = await gems.run(prompt, seed=7, max_rounds=1)
    assert result.plan is not None
    assert (result.plan["skills"], result.rounds[0]["prompt"]) == ([], prompt)


async def test_creative_and_counting_do_not_work_together(tmp_path: Path) -> None:
    chat = ScriptedChat()
    chat.script["route"] = {"skills": ["creative-drawing", "counting-and-binding"]}
    async with service(tmp_path, chat, (), *NAMES) as (gems, _):
        result = await gems.run("a red cat", seed=7)
    assert result.plan is not None
    assert result.plan["skills"] == ["creative-drawing"]
    assert "conflicts with creative-drawing" in result.warnings[0]


# --- knowledge-grounding ---------------------------------------------------------------------------------


async def test_what_must_be_visible_is_stated_asked_for_and_checked(tmp_path: Path) -> None:
    chat = ScriptedChat()
    fact = {"visible": "a grey kangaroo", "why": "it is on the coat of arms", "question": "Is there a kangaroo?"}
    chat.script["consult"] = {"facts": [fact]}
    chat.script["decompose"] = requirements("Is there an animal of Australia?")
    async with service(tmp_path, chat, (), "knowledge-grounding") as (gems, _):
        result = await gems.run("the animal of Australia's arms", seed=7, skills="knowledge-grounding")
    (asked,) = chat.about("consult")
    assert asked.tag("user_prompt") == "the animal of Australia's arms"
    (enhance,) = chat.about("enhance")
    assert "- a grey kangaroo (it is on the coat of arms)" in enhance.tag("skill")
    assert [item.question for item in result.requirements] == [
        "Is there an animal of Australia?",
        "Is there a kangaroo?",
    ]
    assert [item.skill for item in result.requirements] == ["", "knowledge-grounding"]
    assert chat.about("keep") == []
    assert len(chat.about("checklist")[0].lines("questions")) == 2


async def test_where_nothing_has_to_be_known_nothing_is_added(tmp_path: Path) -> None:
    async with Gems(settings_at(tmp_path), skills=[builtin("knowledge-grounding")]) as gems:
        result = await gems.run("a red circle", seed=7, skills="knowledge-grounding")
    assert [item.question for item in result.requirements] == ["Is there a red circle?"]
    assert result.skill_uses[0]["fault"] == ""


async def test_a_planner_that_knows_nothing_readable_costs_the_skill_only(tmp_path: Path) -> None:
    chat = ScriptedChat()
    chat.script["consult"] = "I would rather not."
    async with service(tmp_path, chat, (), "knowledge-grounding") as (gems, generator):
        result = await gems.run("a red cat", seed=7, skills="knowledge-grounding")
    assert generator.requests[0].prompt == "a red cat"
    assert result.skill_uses[0]["fault"]
    assert (result.passed, len(result.warnings)) == (True, 1)


# --- text-rendering --------------------------------------------------------------------------------------


async def text_run(
    home: Path, prompt: str, pictures: Sequence[bytes], asked: str, **more: Any
) -> tuple[RunResult, list[Asked]]:
    """A run with text-rendering, and what its chat model was asked."""
    chat = ScriptedChat()
    # The judge says yes at first; what the text reader found makes it look more closely.
    chat.script |= {"decompose": requirements(asked, kind="text"), "settle": checks("no")}
    async with service(home, chat, pictures, "text-rendering") as (gems, _):
        result = await gems.run(prompt, seed=7, skills="text-rendering", **more)
    return result, chat.asked


async def test_text_is_read_and_what_is_wrong_is_told_exactly(tmp_path: Path) -> None:
    pictures = [
        drawn(["GRAND OPENING", "TODAY TODAY"], width=700),
        drawn(["GRAND OPENNING", "TODAY"], width=700),
        drawn(["GRAND OPENING"], width=700),
        drawn([]),
        drawn(["GRAND OPENING", "TODAY"], width=700),
    ]
    result, asked = await text_run(tmp_path, SIGN, pictures, 'Does the image show the text "GRAND OPENING TODAY"?')
    said = [turn["verdicts"][0]["answers"][0] for turn in result.rounds]
    assert [answer["answer"] for answer in said] == ["no", "no", "no", "no", "yes"]
    assert {answer["source"] for answer in said} == {"text-rendering"}
    for word, answer in zip(("doubled", "wrong", "missing", "nothing"), said, strict=False):
        assert word in answer["evidence"], answer
    assert '"OPENNING" for "OPENING"' in said[1]["evidence"]
    reflected = [question.tag("failed") for question in asked if question.task == "reflect"]
    assert [said[n]["evidence"] in told for n, told in enumerate(reflected)] == [True] * 4
    weighed = [question.tag("findings") for question in asked if question.task == "settle"]
    assert [said[n]["evidence"] in told for n, told in enumerate(weighed)] == [True] * 4
    assert [answer["finding"] for answer in said] == [
        *[{"instrument": "ocr", "answer": "no", "judge": "yes"}] * 4,
        {"instrument": "ocr", "answer": "yes", "judge": "yes"},
    ]
    assert [task.task for task in asked].count("checklist") == 5
    assert all(answer["placed_by"] == "ocr" for answer in said[:3])
    assert "box" not in said[3]
    assert result.stop_reason == "passed"


async def test_texts_that_nobody_asks_about_become_requirements(tmp_path: Path) -> None:
    prompt = 'A poster: "LANTERN LANE" above, the words OPEN LATE below'
    result, _ = await text_run(
        tmp_path, prompt, [drawn(["LANTERN LANE", "OPEN LATE"])], "Is it a poster?", max_rounds=1
    )
    assert [(item.question, item.answer, item.source) for item in result.requirements[1:]] == [
        ('Does the picture show the text "LANTERN LANE"?', "yes", "text-rendering"),
        ('Does the picture show the text "OPEN LATE"?', "yes", "text-rendering"),
    ]
    assert result.requirements[0].source == "confirmation"


@pytest.mark.skipif(chinese_font() is None, reason="no font with Chinese characters")
@pytest.mark.parametrize(
    ("lines", "answer"), [(["今日新茶", "先闻后饮"], "yes"), (["今日新茶"], "no"), (["今日新菜", "先闻后饮"], "no")]
)
async def test_chinese_in_two_lines(lines: list[str], answer: str, tmp_path: Path) -> None:
    picture = drawn(lines, font=chinese_font())
    result, _ = await text_run(
        tmp_path, "一块木牌，上面写着“今日新茶，先闻后饮”", [picture], "Is there a wooden board?", max_rounds=1
    )
    read = result.requirements[1]
    assert (read.answer, read.source) == (answer, "text-rendering"), read.evidence


async def test_without_ocr_the_judge_answers_and_the_run_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RapidReader, "is_installed", staticmethod(lambda: False))
    monkeypatch.setattr("gems.nodes.skills._load_verifiers", lambda skill: [])
    result, asked = await text_run(
        tmp_path, SIGN, [], 'Does the image show the text "GRAND OPENING TODAY"?', max_rounds=1
    )
    assert "pip install 'gems-agent[ocr]'" in result.warnings[0]
    assert [question.task for question in asked].count("checklist") == 1
    assert result.requirements[0].source == "confirmation"


async def test_the_built_in_world_over_http_is_read_too(stub: StubServer, tmp_path: Path) -> None:
    skills = tuple(builtin(name) for name in NAMES)
    async with opened(stub, tmp_path, skills=skills) as gems:
        result = await gems.run('a red circle above the word "OPEN"', seed=3, size="512x512")
    assert result.plan is not None
    assert result.plan["skills"] == ["text-rendering"]
    text = next(item for item in result.requirements if "OPEN" in item.question and item.kind == "text")
    assert text.source == "text-rendering"
    assert {"route", "enhance"} <= set(tasks(stub))
    assert result.warnings == []


def test_skills_of_others_import_the_type_of_a_node_context() -> None:
    assert authoring.NodeContext is context.NodeContext
    assert authoring.Work is context.NodeContext


# --- counting-and-binding, spatial-layout -----------------------------------------------------------------

COUNTED = "three red circles, two green stars and four blue squares"


@pytest.mark.parametrize("name", ["counting-and-binding", "spatial-layout"])
async def test_a_detector_checks_counts_and_places(name: str, tmp_path: Path) -> None:
    prompt = COUNTED if name.startswith("counting") else "a red circle left of a blue square"
    async with Gems(settings_at(tmp_path), skills=[builtin(name)], detector=BlocksDetector(0.0)) as gems:
        result = await gems.run(prompt, seed=7, skills=name, max_rounds=1)
    answers = result.rounds[0]["verdicts"][0]["answers"]
    assert {answer["source"] for answer in answers} <= {name, "parent"}
    assert {answer["finding"]["instrument"] for answer in answers if "finding" in answer} == {"blocks"}
    assert all("'" in answer["evidence"] for answer in answers if answer["source"] == name)
    assert result.models["detector"] == "blocks"
    assert result.warnings == []


async def test_what_a_detector_sees_that_is_not_there_is_looked_at_again(tmp_path: Path) -> None:
    skills = [builtin("counting-and-binding")]
    async with Gems(settings_at(tmp_path), skills=skills, detector=BlocksDetector(1.0)) as gems:
        result = await gems.run(COUNTED, seed=7, skills="counting-and-binding", max_rounds=1)
    found = [answer for answer in result.rounds[0]["verdicts"][0]["answers"] if "finding" in answer]
    wrong = [answer for answer in found if answer["finding"]["answer"] != answer["finding"]["judge"]]
    assert wrong
    assert all(answer["answer"] == answer["finding"]["judge"] for answer in wrong)
    assert {answer["source"] for answer in wrong} == {"confirmation"}


async def test_without_a_detector_the_judge_answers(tmp_path: Path) -> None:
    async with Gems(settings_at(tmp_path), skills=[builtin("counting-and-binding")]) as gems:
        result = await gems.run(COUNTED, seed=7, skills="counting-and-binding", max_rounds=1)
    assert "counting-and-binding" not in {answer["source"] for answer in result.rounds[0]["verdicts"][0]["answers"]}
    assert "detector" not in result.models
