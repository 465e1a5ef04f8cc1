"""Compile the graph of a skill: its own, or the default one of a skill without code."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from pydantic import BaseModel

from gems.errors import SkillError
from gems.nodes.base import Update, as_step
from gems.nodes.context import NodeContext
from gems.nodes.prompts import consultation
from gems.nodes.rewrite import enhance, restore_lost
from gems.skills.authoring import SkillContext, SkillInput, SkillOutput, SkillState, Verifier
from gems.skills.files import read_body, read_guidance, read_reference
from gems.skills.loader import build_skill_graph, build_verifiers, format_code_error, isolate_steps
from gems.skills.models import Skill
from gems.state import Context

T = TypeVar("T")
FormT = TypeVar("FormT", bound=BaseModel)
SkillGraph = CompiledStateGraph[Any, Any, Any, Any]


def skill_graph(skill: Skill) -> SkillGraph:
    """Return the graph of a skill, compiled once per state of its files. Blocking if the skill has code.

    Raises `SkillError` if its code cannot be used.
    """
    return _raise_if_error(_compile_graph(skill))


def skill_verifiers(skill: Skill) -> list[Verifier]:
    """Return the verifiers of a skill; empty if it has no code that may run. Blocking.

    Raises `SkillError` if its code cannot be used.
    """
    return _raise_if_error(_load_verifiers(skill))


def _raise_if_error(found: T | SkillError) -> T:
    """Return the cached value, or raise a new error: raising one instance repeatedly grows its traceback."""
    if isinstance(found, SkillError):
        raise SkillError(found.message, hint=found.hint)
    return found


# Failures are cached too: code that hangs would delay every run again.
@lru_cache(maxsize=512)
def _compile_graph(skill: Skill) -> SkillGraph | SkillError:
    context = skill_context(skill)
    try:
        if skill.runs_code:
            graph = build_skill_graph(skill, context)
            isolate_steps(graph)
        else:
            graph = context.default()
        # The outer graph's checkpointer covers the whole node.
        return graph.compile(checkpointer=None, name=skill.name)
    except SkillError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a graph of somebody else's that cannot be compiled
        return SkillError(
            f"The graph of the skill {skill.name} cannot be compiled: {format_code_error(error)}"
        )


@lru_cache(maxsize=512)
def _load_verifiers(skill: Skill) -> list[Verifier] | SkillError:
    if not skill.runs_code:
        return []
    try:
        return build_verifiers(skill, skill_context(skill))
    except SkillError as error:
        return error


def skill_context(skill: Skill) -> SkillContext:
    """Return the context that the skill's code is built with."""

    async def load(_state: Any, work: NodeContext) -> Update:
        text, faults = await read_guidance(skill)
        for fault in faults:
            work.warn(fault)
        return {"guidance": text}

    async def write(state: Any, work: NodeContext) -> Update:
        return {"prompt": await enhance(state["prompt"], state["guidance"], work)}

    async def check(state: Any, work: NodeContext) -> Update:
        kept = await restore_lost(state["prompt"], state["user_prompt"], state["requirements"], work)
        return {"prompt": kept.prompt, "restored": list(kept.restored)}

    steps = {"load": as_step(load), "enhance": as_step(write), "keep": as_step(check)}

    async def body() -> str:
        return await read_body(skill)

    async def reference(relative: str) -> str:
        return await read_reference(skill, relative)

    return SkillContext(
        name=skill.name,
        folder=skill.folder or Path(),
        body=body,
        reference=reference,
        **steps,
        consult=_consult,
        node=as_step,
        graph=empty_graph,
        default=lambda: _default_graph(steps),
    )


async def _consult(
    work: NodeContext, instructions: str, user_prompt: str, reply: type[FormT], *, material: str = ""
) -> FormT:
    answer = await work.ask(consultation(instructions, user_prompt, reply, material=material))
    return answer.form(reply)


def empty_graph() -> StateGraph[Any, Any, Any, Any]:
    """Return a skill's graph without any step."""
    return StateGraph(SkillState, context_schema=Context, input_schema=SkillInput, output_schema=SkillOutput)


def _default_graph(steps: dict[str, Any]) -> StateGraph[Any, Any, Any, Any]:
    graph = empty_graph().add_sequence(list(steps.items()))
    return graph.add_edge(START, "load").add_edge("keep", END)
