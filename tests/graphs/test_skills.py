"""Skills as subgraphs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from gems.errors import RejectedRequestError, RunCancelledError, UnreachableError
from gems.graphs.loop import MAX_SKILL_NODES, build_graph
from gems.skills.models import Skill, SkillRegistry
from tests.support.graph_runs import carried_out, compiled, config
from tests.support.scripted_models import Asked, Desk, checks, opened_desk
from tests.support.skill_folders import changed, coded, skill_in, text_of, write

SKILLS = [Skill(name=name, description=f"For {name}.", body=f"The body of {name}.") for name in ("spatial", "text")]


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
    assert output["usage"]["planner"]["calls"] == 5


async def test_requirements_come_from_the_users_prompt(desk: Desk) -> None:
    desk.chat.script["route"] = {"skills": ["spatial"]}
    await carried_out(desk, compiled(SKILLS))
    assert desk.chat.about("decompose")[0].tag("user_prompt") == "a red cat"


async def test_several_skills_work_one_after_another(desk: Desk) -> None:
    await carried_out(desk, compiled(SKILLS), skills="text,spatial")
    assert [asked.tag("skill") for asked in desk.chat.about("enhance")] == ["The body of text.", "The body of spatial."]
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
    stream = compiled(SKILLS).astream(given, config(), context=desk.context, stream_mode="updates", subgraphs=True)
    inner = [list(update) async for path, update in stream if path and path[0].startswith("skill_spatial:")]
    assert inner == [["load"], ["enhance"], ["keep"]]


async def test_finished_enhancement_is_not_paid_again(desk: Desk) -> None:
    await carried_out(desk, compiled(SKILLS), skills="spatial", run_id="run")
    await carried_out(desk, compiled(SKILLS), skills="spatial", run_id="run")
    assert len(desk.chat.about("enhance")) == 1
    assert len(desk.generator.requests) == 1


ASKING = """
from langgraph.graph import END, START
from langgraph.types import interrupt

def build(context):
    graph = context.default()

    async def ask(state, work):
        return {"prompt": f"{state['prompt']}, {interrupt('Which?')}"}

    graph.add_node("ask", context.node(ask))
    graph.add_edge("keep", "ask")
    graph.add_edge("ask", END)
    return graph
"""
WANTING = """
def build(context):
    async def want(state, work):
        return {
            "extra_requirements": [{"question": "Is it sharp?", "kind": "style"}, {"question": "is it red"}],
            "drawing": {"negative_prompt": "noise", "steps": 7, "guidance": 2.5, "size": "96x32"},
        }
    graph = context.default()
    graph.add_node("want", context.node(want))
    graph.add_edge("keep", "want")
    return graph
"""


def known(desk: Desk, *skills: Skill) -> Any:
    """The loop with a node for each."""
    desk.context = replace(desk.context, skills=SkillRegistry(skills))
    return compiled(skills)


@pytest.mark.parametrize("has_node", [True, False])
async def test_a_skill_may_ask_the_user(has_node: bool, desk: Desk, tmp_path: Path) -> None:
    skill = coded(tmp_path / "asking", ASKING)
    desk.context = replace(desk.context, skills=SkillRegistry([skill]))
    graph = compiled([skill] if has_node else [], InMemorySaver())
    asked: Any = {"prompt": "a red cat", "seed": 7, "skills": "asking"}
    waiting = await graph.ainvoke(asked, config(), context=desk.context)
    assert [item.value for item in waiting["__interrupt__"]] == ["Which?"]
    assert desk.generator.requests == []
    before = desk.chat.tasks()
    output = await graph.ainvoke(Command(resume="tabby"), config(), context=desk.context)
    assert desk.generator.requests[0].prompt == "better a red cat, tabby"
    assert desk.chat.tasks()[len(before) :] == ["complete", "checklist", "checklist"]
    assert (output["stop_reason"], output["skill_uses"][0]["fault"]) == ("passed", "")
    assert output["usage"]["planner"]["calls"] == before.count("enhance") + before.count("keep") + 2


@pytest.mark.parametrize("users", [False, True])
async def test_what_a_skill_wants_of_the_drawing(users: bool, desk: Desk, tmp_path: Path) -> None:
    given: dict[str, Any] = {"size": "64x64", "negative_prompt": "blur"} if users else {}
    graph = known(desk, coded(tmp_path / "wanting", WANTING))
    output = await carried_out(desk, graph, skills="wanting", **given)
    (drawn,) = desk.generator.requests
    assert (drawn.steps, drawn.guidance) == (7, 2.5)
    assert (drawn.width, drawn.height) == ((64, 64) if users else (96, 32))
    assert drawn.negative_prompt == ("blur, noise" if users else "noise")
    assert output["rounds"][0]["negative_prompt"] == drawn.negative_prompt
    assert output["warnings"] == []


async def test_what_a_skill_wants_checked_is_checked(desk: Desk, tmp_path: Path) -> None:
    graph = known(desk, coded(tmp_path / "wanting", WANTING))
    output = await carried_out(desk, graph, skills="wanting")
    assert [item["id"] for item in output["requirements"]] == ["r1", "r2", "r3"]
    assert (output["requirements"][2]["skill"], output["skill_uses"][0]["requirements"]) == ("wanting", ["r3"])
    assert desk.chat.about("checklist")[0].lines("questions")[2] == "3. Is it sharp?"


async def test_size_that_the_generator_cannot_draw_is_told(desk: Desk, tmp_path: Path) -> None:
    graph = known(desk, coded(tmp_path / "wanting", WANTING.replace("96x32", "9x9")))
    output = await carried_out(desk, graph, skills="wanting")
    assert (desk.generator.requests[0].width, desk.generator.requests[0].steps) == (64, 7)
    assert "flat does not support 9x9" in output["warnings"][0]
    assert output["skill_uses"][0]["fault"] == ""


async def test_evidence_of_a_verifier_reaches_the_reflector(desk: Desk, tmp_path: Path) -> None:
    source = """
from gems.skills.authoring import VerifierAnswer

class Reader:
    seen = 0
    def takes(self, requirement):
        return requirement["question"] == "Is it red?"
    async def verify(self, request):
        self.seen += 1
        answer = "no" if self.seen == 1 else "yes"
        said = VerifierAnswer(answer=answer, evidence="12 % of it")
        return {item["id"]: said for item in request.requirements}

def build(context):
    return context.default()

def verifiers(context):
    return [Reader()]
"""
    desk.chat.script["checklist"] = checks("yes")
    graph = known(desk, coded(tmp_path / "reading", source))
    output = await carried_out(desk, graph, skills="reading")
    assert (output["stop_reason"], len(output["rounds"])) == ("passed", 2)
    (reflect,) = desk.chat.about("reflect")
    assert reflect.lines("failed") == ["1. Is it red? - 12 % of it"]
    sources = [answer["source"] for answer in output["rounds"][0]["verdicts"][0]["answers"]]
    assert sources == ["judge", "reading"]
    assert [asked.tag("question") for asked in desk.chat.about("verify")] == ["Is there a cat?"]


async def test_steps_of_a_skills_own_graph_are_shown(desk: Desk, tmp_path: Path) -> None:
    graph = known(desk, coded(tmp_path / "wanting", WANTING))
    assert "skill_wanting:want" in graph.get_graph(xray=True).nodes
    stream = graph.astream(
        {"prompt": "a red cat", "seed": 7, "skills": "wanting"},
        config(),
        context=desk.context,
        stream_mode="updates",
        subgraphs=True,
    )
    inner = [list(update) async for path, update in stream if path and path[0].startswith("skill_wanting:")]
    assert inner == [["load"], ["enhance"], ["keep"], ["want"]]


async def test_more_skills_than_nodes(desk: Desk) -> None:
    skills = [Skill(name=f"skill-{n:02}", description="One.", body=f"B{n}") for n in range(MAX_SKILL_NODES + 5)]
    graph = known(desk, *skills)
    output = await carried_out(desk, graph, skills="skill-33,skill-00,skill-34")
    assert [asked.tag("skill") for asked in desk.chat.about("enhance")] == ["B33", "B0", "B34"]
    assert [use["fault"] for use in output["skill_uses"]] == ["", "", ""]


@pytest.mark.parametrize("had_node", [True, False])
async def test_files_count_as_they_are_when_the_run_begins(had_node: bool, desk: Desk, tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", body="Old.")
    graph = compiled([skill_in(folder)] if had_node else [])
    changed(folder / "SKILL.md", text_of("mine", body="New."))
    (folder / "graph.py").write_text(WANTING)
    desk.context = replace(desk.context, skills=SkillRegistry([skill_in(folder)]))
    await carried_out(desk, graph, skills="mine")
    assert desk.chat.about("enhance")[0].tag("skill") == "New."
    assert desk.generator.requests[0].steps == 7


async def test_named_files_are_read_with_the_body(desk: Desk, tmp_path: Path) -> None:
    files = {"references/a.md": "The notes."}
    graph = known(desk, skill_in(write(tmp_path / "mine", files, body="references/a.md references/b.md")))
    output = await carried_out(desk, graph, skills="mine")
    assert "The notes." in desk.chat.about("enhance")[0].tag("skill")
    assert "references/b.md" in output["warnings"][0]
    assert output["skill_uses"][0]["fault"] == ""


@pytest.mark.parametrize("task", ["keep", "enhance"])
async def test_what_a_skill_finished_is_not_paid_again(task: str, desk: Desk) -> None:
    answer = desk.chat.script[task]
    desk.chat.script[task] = UnreachableError("gone")
    graph = compiled(SKILLS)
    with pytest.raises(UnreachableError):
        await carried_out(desk, graph, skills="spatial")
    desk.chat.script[task] = answer
    before = len(desk.chat.asked)
    output = await graph.ainvoke(None, config(), context=desk.context)
    assert output["stop_reason"] == "passed"
    again = desk.chat.tasks()[before:]
    assert again == [*(["enhance"] if task == "enhance" else []), "keep", "complete", "checklist", "checklist"]
    assert output["usage"]["planner"]["calls"] == 4


async def test_a_cancelled_run_waits_for_no_skill(desk: Desk) -> None:
    async def cancels(asked: Asked) -> Any:
        desk.context.cancelled.set()
        await asyncio.Event().wait()

    desk.chat.script["enhance"] = cancels
    with pytest.raises(RunCancelledError):
        await carried_out(desk, compiled(SKILLS), skills="spatial")


async def test_a_cancelled_run_waits_for_no_code_of_a_skill(desk: Desk, tmp_path: Path) -> None:
    source = """
import asyncio
from langgraph.graph import END, START
from gems.state import Context

def build(context):
    graph = context.graph()
    async def hang(state, runtime):
        runtime.context.cancelled.set()
        await asyncio.Event().wait()
    graph.add_node("hang", hang)
    graph.add_edge(START, "hang")
    return graph
"""
    graph = known(desk, coded(tmp_path / "hanging", source))
    with pytest.raises(RunCancelledError):
        await carried_out(desk, graph, skills="hanging")


@pytest.mark.parametrize("answer", [{"skills": [], "why": "Plain."}, "none", {"why": "Plain."}])
async def test_a_plain_request_uses_no_skill(answer: Any, desk: Desk) -> None:
    desk.chat.script["route"] = answer
    output = await carried_out(desk, compiled(SKILLS))
    assert not output.get("skill_uses")
    assert desk.told("planned")[0]["plan"]["skills"] == []
    assert "keep" not in desk.chat.tasks()
    assert desk.generator.requests[0].prompt == "a red cat"


async def test_a_graph_without_checkpointer_runs_skills_too(desk: Desk) -> None:
    graph = build_graph(SKILLS).compile()
    output = await graph.ainvoke({"prompt": "a red cat", "skills": "spatial"}, context=desk.context)
    assert (output["final_prompt"], output["skill_uses"][0]["fault"]) == ("better a red cat", "")
