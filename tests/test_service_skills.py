"""Skills in real folders, as an open service finds them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gems.errors import OptionError, ServerError, UnreachableError
from gems.files.trust import trust
from gems.results import RunResult
from gems.service import Gems
from tests.support.scripted_models import Asked, FlatGenerator, ScriptedChat, settings_at
from tests.support.skill_folders import changed, text_of, write

SUFFIX = """
def build(context):
    graph = context.graph()
    async def add(state, work):
        return {{"prompt": state["prompt"] + " {}"}}
    graph.add_node("add", context.node(add))
    graph.set_entry_point("add")
    return graph
"""


class World:
    """An open service with scripted models whose home is a real folder."""

    def __init__(self, gems: Gems, chat: ScriptedChat, generator: FlatGenerator) -> None:
        self.gems, self.chat, self.generator = gems, chat, generator
        self.skills = gems.settings.home / "skills"

    async def run(self, skills: str = "mine") -> RunResult:
        return await self.gems.run("a red cat", seed=7, skills=skills)

    async def drawn(self, skills: str = "mine") -> str:
        return (await self.run(skills)).final_prompt

    async def offered(self) -> list[str]:
        await self.run("auto")
        return [line.partition(":")[0] for line in self.chat.about("route")[-1].lines("skills")]


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    chat, generator = ScriptedChat(), FlatGenerator()
    async with Gems(settings_at(tmp_path / "home"), chat=chat, generator=generator) as gems:
        yield World(gems, chat, generator)


async def test_a_skill_that_is_dropped_in_is_used_by_the_next_run(world: World) -> None:
    assert "mine" not in await world.offered()
    with pytest.raises(OptionError, match="Unknown skill: 'mine'"):
        await world.run()
    write(world.skills / "mine", body="Be vivid.")
    assert "mine" in await world.offered()
    assert await world.drawn() == "better a red cat"
    assert world.chat.about("enhance")[-1].tag("skill") == "Be vivid."


async def test_built_in_skills_are_offered(world: World) -> None:
    assert {"spatial-layout", "text-rendering"} <= set(await world.offered())


async def test_edits_take_effect_on_the_next_run(world: World) -> None:
    folder = write(world.skills / "mine", body="One.")
    await world.run()
    changed(folder / "SKILL.md", text_of("mine", body="Two."))
    await world.run()
    assert [asked.tag("skill") for asked in world.chat.about("enhance")] == ["One.", "Two."]
    (folder / "graph.py").write_text(SUFFIX.format("one"))
    assert await world.drawn() == "a red cat one"
    changed(folder / "graph.py", SUFFIX.format("two"))
    assert await world.drawn() == "a red cat two"
    changed(folder / "graph.py", "1 / 0")
    result = await world.run()
    assert (result.stop_reason, result.final_prompt) == ("passed", "a red cat")
    assert "ZeroDivisionError" in result.skill_uses[0]["fault"]
    (folder / "graph.py").unlink()
    assert await world.drawn() == "better a red cat"


async def test_a_skill_that_was_there_at_the_start_is_edited_too(tmp_path: Path) -> None:
    folder = write(tmp_path / "home/skills/mine", {"graph.py": SUFFIX.format("one")})
    settings = settings_at(tmp_path / "home")
    async with Gems(settings, chat=ScriptedChat(), generator=FlatGenerator()) as gems:
        assert (await gems.run("a cat", skills="mine")).final_prompt == "a cat one"
        changed(folder / "graph.py", SUFFIX.format("two"))
        assert (await gems.run("a cat", skills="mine")).final_prompt == "a cat two"


async def test_a_skill_that_is_gone_is_no_longer_offered(world: World) -> None:
    folder = write(world.skills / "mine")
    assert "mine" in await world.offered()
    folder.rename(world.skills / "yours")
    write(world.skills / "yours")
    assert {"yours"} == {"mine", "yours"} & set(await world.offered())
    (world.skills / "yours" / "SKILL.md").unlink()
    assert "yours" not in await world.offered()
    with pytest.raises(OptionError, match="Unknown skill: 'yours'"):
        await world.run("yours")


async def test_a_faulty_skill_is_told_once_and_breaks_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    write(world.skills / "mine")
    folder = write(world.skills / "faulty", {"SKILL.md": "---\nname: faulty\n---\nbody"})
    with caplog.at_level(logging.WARNING, "gems.skills"):
        assert await world.drawn() == "better a red cat"
        await world.run()
    (record,) = [record for record in caplog.records if record.name.startswith("gems.skills")]
    assert f"The skill in {folder} is ignored: SKILL.md:1: There is no description." in record.getMessage()


async def test_names_may_be_written_with_underscores(world: World) -> None:
    write(world.skills / "my_skill", {"SKILL.md": "# Skill: X\n## Description\nD.\n## Instructions\nBe bold."})
    world.chat.script["route"] = {"skills": ["my_skill"], "why": "It fits."}
    for skills in ("my_skill", "my-skill", "auto"):
        result = await world.run(skills)
        assert [use["name"] for use in result.skill_uses] == ["my-skill"]
    assert result.plan is not None
    assert result.plan["why"] == "It fits."


async def test_a_projects_skills_wait_for_trust(world: World, tmp_path: Path) -> None:
    write(tmp_path / ".agents" / "skills" / "of-the-user", {"graph.py": SUFFIX.format("code")})
    project = tmp_path / "project"
    write(project / ".claude" / "skills" / "of-the-project", {"graph.py": SUFFIX.format("code")})
    assert await world.drawn("of-the-user") == "better a red cat"
    assert "of-the-project" not in await world.offered()


async def test_a_trusted_projects_skills_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    write(project / ".claude" / "skills" / "mine", {"graph.py": SUFFIX.format("code")})
    monkeypatch.chdir(project)
    settings = settings_at(tmp_path / "home")
    async with Gems(settings, chat=ScriptedChat(), generator=FlatGenerator()) as gems:
        with pytest.raises(OptionError):
            await gems.run("a cat", skills="mine")
        trust(settings.home, project)
        assert (await gems.run("a cat", skills="mine")).final_prompt == "a cat code"


async def test_further_places_go_first(tmp_path: Path) -> None:
    write(tmp_path / "home/skills/mine", body="Home.")
    write(tmp_path / "further/mine", body="Further.")
    chat = ScriptedChat()
    settings = settings_at(tmp_path / "home", skills_path=str(tmp_path / "further"))
    async with Gems(settings, chat=chat, generator=FlatGenerator()) as gems:
        await gems.run("a cat", skills="mine")
    assert chat.about("enhance")[0].tag("skill") == "Further."


@pytest.mark.parametrize("has_code", [True, False])
async def test_a_run_that_stops_in_drawing_pays_for_no_skill_again(has_code: bool, world: World) -> None:
    code = "def build(context):\n    return context.default()\n"
    write(world.skills / "mine", {"graph.py": code} if has_code else {})

    async def fails(request: Any) -> None:
        raise ServerError("broken")

    world.generator.before = fails
    with pytest.raises(ServerError) as caught:
        await world.run()
    world.generator.before = None
    result = await world.gems.resume(caught.value.run_id)
    assert (result.stop_reason, result.final_prompt) == ("passed", "better a red cat")
    assert [len(world.chat.about(task)) for task in ("decompose", "enhance", "keep")] == [1, 1, 1]


async def test_a_run_that_stops_within_a_skill_goes_on_there(world: World) -> None:
    write(world.skills / "mine")
    answer = world.chat.script["keep"]
    world.chat.script["keep"] = UnreachableError("gone")
    with pytest.raises(UnreachableError) as caught:
        await world.run()
    world.chat.script["keep"] = answer
    result = await world.gems.resume(caught.value.run_id)
    assert (result.stop_reason, result.final_prompt) == ("passed", "better a red cat")
    assert [len(world.chat.about(task)) for task in ("decompose", "enhance", "keep")] == [1, 1, 2]
    assert result.usage["planner"]["calls"] == 4


async def test_a_skill_that_was_deleted_in_between_costs_no_run(world: World) -> None:
    folder = write(world.skills / "mine")
    world.chat.script["keep"] = UnreachableError("gone")
    with pytest.raises(UnreachableError) as caught:
        await world.run()
    (folder / "SKILL.md").unlink()
    result = await world.gems.resume(caught.value.run_id)
    assert (result.stop_reason, result.final_prompt) == ("passed", "a red cat")
    assert "vanished" in result.skill_uses[0]["fault"]


async def test_a_skill_that_changed_in_between_is_begun_anew(world: World) -> None:
    folder = write(world.skills / "mine")
    world.chat.script["keep"] = UnreachableError("gone")
    with pytest.raises(UnreachableError) as caught:
        await world.run()
    (folder / "graph.py").write_text(SUFFIX.format("code"))
    result = await world.gems.resume(caught.value.run_id)
    assert (result.stop_reason, result.final_prompt) == ("passed", "a red cat code")


async def test_a_skill_that_is_chosen_and_then_deleted(world: World) -> None:
    folder = write(world.skills / "mine")

    def deletes(asked: Asked) -> Any:
        (folder / "SKILL.md").unlink()
        return {"skills": ["mine"], "why": "It fits."}

    world.chat.script["route"] = deletes
    result = await world.run("auto")
    assert (result.stop_reason, result.final_prompt) == ("passed", "a red cat")
    assert "no file SKILL.md" in result.skill_uses[0]["fault"]
