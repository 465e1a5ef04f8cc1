"""Compile the graphs and verifiers of skills, and check their results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar, get_args

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from pydantic import BaseModel

from gems.errors import SkillError
from gems.events import RequirementsListed, SkillUsed
from gems.nodes.base import Update, as_step
from gems.nodes.context import NodeContext
from gems.nodes.decomposer import normalize_question
from gems.nodes.generator import check_overrides, merge_overrides
from gems.nodes.prompts import consultation
from gems.nodes.rewrite import enhance, keeps_own_words, keeps_words, put_words_first, restore_lost
from gems.options import MAX_PROMPT, is_unicode
from gems.skills.authoring import SkillContext, SkillInput, SkillOutput, SkillState, Verifier
from gems.skills.files import read_body, read_guidance, read_reference
from gems.skills.loader import build_skill_graph, build_verifiers, format_code_error, isolate_steps
from gems.skills.models import Skill
from gems.state import Context, State
from gems.types import NO_USAGE, Requirement, RequirementKind, SkillUse, Usage

MAX_EXTRA = 10
"""Maximum number of requirements that one skill may add."""
_MAX_QUESTION = 500
T = TypeVar("T")


def apply_result(name: str, result: Mapping[str, Any], state: State, work: NodeContext) -> Update:
    """Return the update for a skill's result; SkillError if it does not have the form of `SkillOutput`."""
    prompt = _check_prompt(result, state["current_prompt"])
    restored = result.get("restored") or []
    if not isinstance(restored, list | tuple) or not all(isinstance(item, str) for item in restored):
        raise SkillError("Its restored must be a list of questions.")
    before = state["requirements"]
    extra = _check_extra(name, result.get("extra_requirements"), before, work)
    generator = work.context.generator.capabilities
    drawing, faults = check_overrides(result.get("drawing"), state["options"], generator)
    for fault in faults:
        work.warn(f"A setting of the skill {name} is ignored: {fault}.")
    use: SkillUse = {
        "name": name,
        "prompt": prompt,
        "restored": list(restored),
        "requirements": [requirement["id"] for requirement in extra],
        "drawing": drawing,
        "fault": "",
    }
    drawn = put_words_first(prompt, state["prompt"]) if keeps_words(state["prompt"], work) else prompt
    update: Update = {"current_prompt": drawn, "skill_uses": [*(state.get("skill_uses") or []), use]}
    if extra:
        update["requirements"] = [*before, *extra]
        work.emit(RequirementsListed(requirements=update["requirements"]))
    if drawing:
        update["generation_overrides"] = merge_overrides(state.get("generation_overrides") or {}, drawing)
    work.emit(SkillUsed(use=use))
    return update


def skip_skill(name: str, fault: str, state: State, work: NodeContext) -> Update:
    """Return the update of a run that continues without a skill that failed."""
    work.warn(f"The run continues without the skill {name}: {fault}")
    use: SkillUse = {
        "name": name,
        "prompt": state["current_prompt"],
        "restored": [],
        "requirements": [],
        "drawing": {},
        "fault": fault,
    }
    work.emit(SkillUsed(use=use))
    return {"skill_uses": [*(state.get("skill_uses") or []), use]}


_COUNTED_LATER = {"wasted_calls", "wasted_tokens"}
"""Which usages of older graphs lack."""


def check_usage(result: Mapping[str, Any]) -> tuple[dict[str, Usage], list[str]]:
    """Return the valid usage and warnings that a skill's graph reports."""
    usage, warnings = result.get("usage"), result.get("warnings")
    used = usage.items() if isinstance(usage, Mapping) else ()
    told = warnings if isinstance(warnings, list | tuple) else ()
    return (
        {name: counts for name, counts in used if isinstance(name, str) and _is_usage(counts)},
        [message for message in told if isinstance(message, str)],
    )


def _is_usage(counts: Any) -> bool:
    if not isinstance(counts, Mapping) or set(counts) | _COUNTED_LATER != set(NO_USAGE):
        return False
    return all(isinstance(value, int | float) or (name, value) == ("usd", None) for name, value in counts.items())


@asynccontextmanager
async def limit_time(seconds: float) -> AsyncIterator[None]:
    """Raise SkillError if the block takes longer; timeouts within it are left alone."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError:
        if limit.expired():
            hint = "Increase GEMS_SKILL_TIMEOUT_S."
            raise SkillError(f"It did not finish within {seconds:g} s.", hint=hint) from None
        raise


def used_skills(state: State) -> list[str]:
    """Return the names of the skills that succeeded."""
    return [use["name"] for use in state.get("skill_uses") or [] if not use["fault"]]


def _check_prompt(result: Mapping[str, Any], before: str) -> str:
    prompt = result.get("prompt", before)
    if not isinstance(prompt, str):
        raise SkillError(f"Its prompt is {type(prompt).__name__}; it must be a text.")
    if not is_unicode(prompt):
        raise SkillError("Its prompt is no Unicode text.")
    if len(prompt) > MAX_PROMPT:
        raise SkillError(f"Its prompt has {len(prompt):,} characters; at most {MAX_PROMPT:,} are taken.")
    return prompt.strip() or before


def _check_extra(name: str, given: Any, before: Sequence[Requirement], work: NodeContext) -> list[Requirement]:
    if not isinstance(given or [], list | tuple):
        raise SkillError(f"Its extra_requirements are {type(given).__name__}; they must be a list.")
    known = {normalize_question(requirement["question"]) for requirement in before}
    extra: list[Requirement] = []
    for item in given or ():
        question = item.get("question") if isinstance(item, Mapping) else None
        if not isinstance(question, str) or not 0 < len(question.strip()) <= _MAX_QUESTION:
            raise SkillError(f"An extra requirement has no question of 1 to {_MAX_QUESTION} characters.")
        text = " ".join(question.split())
        if not is_unicode(text):
            raise SkillError("The question of an extra requirement is no Unicode text.")
        if normalize_question(text) in known:
            continue
        if len(extra) == MAX_EXTRA:
            work.warn(f"Of the requirements that the skill {name} adds, only {MAX_EXTRA} are checked.")
            break
        known.add(normalize_question(text))
        kind: RequirementKind = item["kind"] if item.get("kind") in get_args(RequirementKind) else "other"
        number = len(before) + len(extra) + 1
        extra.append({"id": f"r{number}", "question": text, "kind": kind, "parents": [], "skill": name})
    return extra


FormT = TypeVar("FormT", bound=BaseModel)
SkillGraph = CompiledStateGraph[Any, Any, Any, Any]


def skill_graph(skill: Skill) -> SkillGraph:
    """Return the graph of a skill, compiled once per state of its files; SkillError if it is unusable."""
    return _raise_if_error(_compile_graph(skill))


def skill_verifiers(skill: Skill) -> list[Verifier]:
    """Return the verifiers of a skill, none if it has no code that may run; SkillError if it is unusable."""
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
        return SkillError(f"The graph of the skill {skill.name} cannot be compiled: {format_code_error(error)}")


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
        text, faults = await read_guidance(skill, partial(work.amend_skill, skill.name))
        for fault in faults:
            work.warn(fault)
        return {"guidance": text}

    async def write(state: Any, work: NodeContext) -> Update:
        return {"prompt": await enhance(state["prompt"], state["guidance"], work)}

    async def check(state: Any, work: NodeContext) -> Update:
        if keeps_own_words(skill, state["user_prompt"], work):
            return {"prompt": put_words_first(state["prompt"], state["user_prompt"]), "restored": []}
        kept = await restore_lost(state["prompt"], state["user_prompt"], state["requirements"], work)
        return {"prompt": kept.prompt, "restored": list(kept.restored)}

    steps = {"load": as_step(load), "enhance": as_step(write), "keep": as_step(check)}

    def default() -> StateGraph[Any, Any, Any, Any]:
        graph = empty_graph().add_sequence(list(steps.items()))
        return graph.add_edge(START, "load").add_edge("keep", END)

    return SkillContext(
        name=skill.name,
        folder=skill.folder or Path(),
        body=partial(read_body, skill),
        reference=partial(read_reference, skill),
        **steps,
        consult=_consult,
        node=as_step,
        graph=empty_graph,
        default=default,
    )


async def _consult(
    work: NodeContext, instructions: str, user_prompt: str, reply: type[FormT], *, material: str = ""
) -> FormT:
    answer = await work.ask(consultation(instructions, user_prompt, reply, material=material))
    return answer.form(reply)


def empty_graph() -> StateGraph[Any, Any, Any, Any]:
    """Return a skill's graph without any step."""
    return StateGraph(SkillState, context_schema=Context, input_schema=SkillInput, output_schema=SkillOutput)
