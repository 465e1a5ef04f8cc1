"""Runs that wait for an answer to what a skill has asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gems.errors import AnswerNeededError, OptionError
from gems.service import Gems
from tests.support.scripted_models import FlatGenerator, ScriptedChat, settings_at
from tests.support.skill_folders import write
from tests.support.terminal import gems as command

ASKS = """
from langgraph.types import interrupt

def build(context):
    async def season(state, work):
        return {"prompt": state["prompt"] + " in " + interrupt("In which season?")}

    graph = context.default()
    graph.add_node("season", context.node(season))
    graph.add_edge("keep", "season")
    return graph
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write(tmp_path / "home" / "skills" / "seasons", {"graph.py": ASKS})
    return tmp_path / "home"


@pytest_asyncio.fixture
async def chat() -> ScriptedChat:
    return ScriptedChat()


@pytest_asyncio.fixture
async def gems(home: Path, chat: ScriptedChat) -> AsyncIterator[Gems]:
    async with Gems(settings_at(home), chat=chat, generator=FlatGenerator()) as gems:
        yield gems


async def asked(gems: Gems) -> str:
    """The id of a run that waits."""
    with pytest.raises(AnswerNeededError, match="In which season") as caught:
        await gems.run("a red cat", seed=7, skills="seasons")
    assert f"gems resume {caught.value.run_id} --answer" in caught.value.hint
    return caught.value.run_id


async def test_an_answered_run_goes_on_and_pays_for_nothing_twice(gems: Gems, chat: ScriptedChat) -> None:
    run_id = await asked(gems)
    assert [row["status"] for row in await gems.runs()] == ["interrupted"]
    result = await gems.resume(run_id, "winter")
    assert result.final_prompt == "better a red cat in winter"
    assert (result.passed, result.skill_uses[0]["fault"]) == (True, "")
    assert (chat.tasks().count("enhance"), chat.tasks().count("route")) == (1, 0)


async def test_without_an_answer_it_asks_again(gems: Gems) -> None:
    run_id = await asked(gems)
    with pytest.raises(AnswerNeededError, match="In which season"):
        await gems.resume(run_id)
    assert (await gems.resume(run_id, "spring")).passed


async def test_an_answer_that_nobody_asked_for_is_refused(gems: Gems) -> None:
    run_id = await asked(gems)
    await gems.resume(run_id, "winter")
    with pytest.raises(OptionError, match="does not ask a question"):
        await gems.resume(run_id, "summer")


async def test_another_process_can_answer(home: Path, gems: Gems) -> None:
    run_id = await asked(gems)
    chat = ScriptedChat()
    async with Gems(settings_at(home), chat=chat, generator=FlatGenerator()) as later:
        result = await later.resume(run_id, "autumn")
    assert result.final_prompt == "better a red cat in autumn"
    assert "enhance" not in chat.tasks()


def test_on_the_command_line(home: Path) -> None:
    told = command("run", "a red circle", "--skills", "seasons", GEMS_HOME=str(home))
    assert told.returncode == 2
    assert "In which season?" in told.stderr
    assert "--answer" in told.stderr
    done = command("resume", "last", "--answer", "winter", GEMS_HOME=str(home))
    assert done.returncode == 0, done.stderr
    shown = command("show", "last", GEMS_HOME=str(home))
    assert "a red circle in winter" in shown.stdout
