"""Skills tried on their own examples."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio

from gems.errors import AuthenticationError, OptionError, RejectedRequestError, SkillError, UnreachableError
from gems.nodes.skills import skill_context
from gems.service import Gems
from gems.skills.discovery import read_skill
from gems.skills.loader import build_skill_graph
from gems.skills.models import Skill
from gems.skills.reports import SkillTrial
from tests.support.scripted_models import Asked, FlatGenerator, ScriptedChat, requirements, script, settings_at
from tests.support.skill_folders import example, skill_folder

EXAMPLES = [
    example("a red fox, two hens", True, "two  HENS", "red"),
    example("a blue fox", True, "blue"),
    example("a plain cat", False),
    example("a dog", False),
]


def routed(asked: Asked) -> dict[str, Any]:
    """Chooses foxes for red foxes and for dogs."""
    prompt = asked.tag("user_prompt")
    return {"skills": ["foxes"] if "red" in prompt or "dog" in prompt else ["hens"]}


@pytest.fixture
def chat() -> ScriptedChat:
    return ScriptedChat(script=script() | {"route": routed})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    skill_folder(home / "skills", "foxes", EXAMPLES)
    skill_folder(home / "skills", "hens")
    return home


@pytest_asyncio.fixture
async def gems(home: Path, chat: ScriptedChat) -> AsyncIterator[Gems]:
    async with Gems(settings_at(home), chat=chat, generator=FlatGenerator()) as service:
        yield service


async def test_choices_and_statements_are_counted(gems: Gems, chat: ScriptedChat) -> None:
    steps: list[tuple[int, int]] = []
    trial = await gems.skills.try_out("foxes", progress=lambda done, of: steps.append((done, of)))
    assert (trial.precision, trial.recall) == (0.5, 0.5)
    assert (trial.kept, trial.checked, trial.unanswered, trial.passed) == (3, 3, 0, False)
    assert [found.passed for found in trial.examples] == [True, False, True, False]
    assert [found.chosen for found in trial.examples] == [True, False, False, True]
    assert trial.examples[1].skills == ["hens"]
    assert trial.examples[0].new_prompt == "better a red fox, two hens"
    assert [found.new_prompt for found in trial.examples[2:]] == [None, None]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    # Each is routed; of those that call for it each is decomposed, rewritten, and compared by the skill.
    assert trial.calls == 4 + 2 * 3 == len(chat.asked)
    assert trial.usage["planner"]["input_tokens"] == 100
    shown = chat.about("route")[0].lines("skills")
    assert len(shown) == 8, "the whole catalogue"


async def test_requirements_come_from_the_decomposer(gems: Gems, chat: ScriptedChat) -> None:
    chat.script["decompose"] = requirements("Is the fox red?")
    await gems.skills.try_out("foxes", limit=1)
    assert chat.about("keep")[0].lines("questions") == ["1. Is the fox red?"]
    assert chat.about("enhance")[0].tag("skill") == "# foxes\n\nThe body of foxes."


async def test_the_model_is_asked_about_what_is_not_said_literally(gems: Gems, chat: ScriptedChat) -> None:
    chat.script["enhance"] = {"prompt": "a crimson fox and one hen"}

    def kept(asked: Asked) -> dict[str, Any]:
        own = "Is there a cat?" in asked.tag("questions")
        return {"lost": []} if own else {"lost": [{"number": 1, "how": "contradicted"}, {"number": 9}]}

    chat.script["keep"] = kept
    trial = await gems.skills.try_out("foxes", limit=1)
    assert chat.about("keep")[-1].lines("questions") == ["1. two HENS", "2. red"]
    assert chat.about("keep")[-1].tag("user_prompt") == "a red fox, two hens"
    assert (trial.examples[0].lost, trial.examples[0].kept) == (["two  HENS"], ["red"])
    assert (trial.kept, trial.checked, trial.passed) == (1, 2, False)
    assert (trial.precision, trial.recall) == (1.0, 1.0)


async def test_shares_that_are_not_defined(home: Path, gems: Gems, chat: ScriptedChat) -> None:
    chat.script["route"] = {"skills": []}
    skill_folder(home / "skills", "owls", [example("a cat", False)])
    await gems.resources.skills.refreshed()
    trial = await gems.skills.try_out("owls")
    assert (trial.precision, trial.recall, trial.checked, trial.passed) == (None, None, 0, True)


async def test_nothing_is_drawn_or_recorded(home: Path, gems: Gems) -> None:
    await gems.skills.try_out("foxes")
    generator: Any = gems.resources.generator
    assert generator.requests == []
    assert await gems.runs() == []
    assert counted(home) == dict.fromkeys(("runs", "answers", "drawings", "checkpoints", "writes"), 0)


def counted(home: Path) -> dict[str, int]:
    """Rows of the tables that runs write to."""
    rows: dict[str, int] = {}
    for path in home.glob("*.sqlite3"):
        with closing(sqlite3.connect(path)) as database:
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall():
                if name in ("runs", "answers", "drawings", "checkpoints", "writes"):
                    (rows[name],) = database.execute(f"SELECT count(*) FROM {name}").fetchone()
    return rows


@pytest.mark.parametrize("task", ["route", "decompose", "enhance", "keep"])
async def test_what_is_not_answered_is_listed(gems: Gems, chat: ScriptedChat, task: str) -> None:
    usual = script()[task] if task != "route" else routed

    def refusing(asked: Asked) -> Any:
        if "red" in asked.tag("user_prompt"):
            raise RejectedRequestError("not about red ones")
        return usual(asked) if callable(usual) else usual

    chat.script[task] = refusing
    trial = await gems.skills.try_out("foxes", limit=2)
    first, second = trial.examples
    assert (trial.unanswered, second.unanswered, second.kept) == (1, [], ["blue"])
    assert first.unanswered
    assert "not about red ones" in first.unanswered[0]
    assert not first.passed
    assert (first.chosen is None) == (task == "route")
    if task != "route":
        assert (first.kept, first.lost, first.new_prompt) == ([], [], None)
        assert trial.checked == 1
    assert trial.recall == (0.0 if task == "route" else 0.5)


async def test_an_endpoint_that_is_unreachable_ends_it_all(gems: Gems, chat: ScriptedChat) -> None:
    request = httpx.Request("POST", "http://127.0.0.1:9/v1")
    chat.script["route"] = lambda asked: openai.APIConnectionError(request=request)
    with pytest.raises(UnreachableError):
        await gems.skills.try_out("foxes")


async def test_a_key_that_is_not_accepted_ends_it_all(gems: Gems, chat: ScriptedChat) -> None:
    chat.script["decompose"] = lambda asked: AuthenticationError("not this key")
    with pytest.raises(AuthenticationError):
        await gems.skills.try_out("foxes")


async def test_no_more_than_a_few_at_a_time(home: Path, gems: Gems, chat: ScriptedChat) -> None:
    busy, most = 0, 0

    async def slow(asked: Asked) -> dict[str, Any]:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.01)
        busy -= 1
        return {"skills": []}

    chat.script["route"] = slow
    skill_folder(home / "skills", "owls", [example(f"owl {n}", False) for n in range(30)])
    await gems.resources.skills.refreshed()
    trial = await gems.skills.try_out("owls")
    assert [found.line for found in trial.examples] == list(range(1, 31))
    assert 1 < most <= 8


CODE = """
def build(context):
    async def doing(state, work):
        if "blue" in state["user_prompt"]:
            raise RuntimeError("no blue ones")
        assert state["run_id"] == ""
        return {"prompt": state["prompt"] + " in own words"}
    graph = context.graph()
    graph.add_node("doing", context.node(doing))
    graph.set_entry_point("doing")
    return graph
"""


async def test_skills_with_code_run_it(tmp_path: Path, home: Path, gems: Gems) -> None:
    skill_folder(home / "skills", "owls", EXAMPLES, code=CODE)
    await gems.resources.skills.refreshed()
    trial = await gems.skills.try_out("owls")
    assert trial.examples[0].new_prompt == "a red fox, two hens in own words"
    assert "no blue ones" in trial.examples[1].fault
    assert (trial.examples[1].passed, trial.unanswered, trial.checked) == (False, 0, 2)


ASKING = """
from langgraph.types import interrupt

def build(context):
    async def ask(state, work):
        return {"prompt": interrupt("which fox?")}
    graph = context.graph()
    graph.add_node("ask", context.node(ask))
    graph.set_entry_point("ask")
    return graph
"""


async def test_skills_that_ask_a_person_find_nobody(home: Path, gems: Gems) -> None:
    skill_folder(home / "skills", "owls", EXAMPLES[:1], code=ASKING)
    await gems.resources.skills.refreshed()
    (found,) = (await gems.skills.try_out("owls")).examples
    assert "a test cannot answer" in found.fault
    assert (found.kept, found.new_prompt) == ([], None)


async def test_code_is_loaded_once_by_several_at_a_time(home: Path, gems: Gems) -> None:
    folder = skill_folder(home / "skills", "owls", code=f"import time\ntime.sleep(0.2)\n{CODE}")
    skill = read_skill(folder, "home", trusted=True)
    assert isinstance(skill, Skill)
    context = skill_context(skill)
    built = [asyncio.to_thread(build_skill_graph, skill, context) for _ in range(4)]
    assert len(await asyncio.gather(*built)) == 4


async def test_what_is_no_skill(tmp_path: Path, home: Path, gems: Gems) -> None:
    with pytest.raises(OptionError, match="Unknown skill: 'bears'") as caught:
        await gems.skills.try_out("bears")
    assert "foxes" in caught.value.hint
    with pytest.raises(SkillError, match=r"no file examples\.jsonl"):
        await gems.skills.try_out("hens")
    with pytest.raises(OptionError, match="no skill in"):
        await gems.skills.try_out(tmp_path / "nowhere")
    broken = skill_folder(home / "skills", "broken", EXAMPLES)
    (broken / "SKILL.md").write_text("---\nname: broken\n")
    await gems.resources.skills.refreshed()
    for wanted in ("broken", broken.resolve()):
        with pytest.raises(OptionError, match="not closed"):
            await gems.skills.try_out(wanted)


async def test_a_skill_of_a_program_has_no_examples(tmp_path: Path, chat: ScriptedChat) -> None:
    own = Skill(name="foxes", description="For foxes.", body="Red.")
    async with Gems(settings_at(tmp_path), chat=chat, generator=FlatGenerator(), skills=[own]) as service:
        with pytest.raises(SkillError, match="created by a program"):
            await service.skills.try_out("foxes")


async def test_the_report_is_plain_json(gems: Gems) -> None:
    trial = await gems.skills.try_out("foxes")
    assert SkillTrial.model_validate_json(trial.model_dump_json()) == trial
