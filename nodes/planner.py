"""Planner: choose skills and the first prompt."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from gems.errors import GemsError, InternalError, LimitReached, OptionError, ProviderError, UnreachableError
from gems.events import Planned
from gems.memory.retrieval import estimate_tokens, format_lesson
from gems.models.chat.messages import ChatReply
from gems.models.chat.schemas import SkillChoice
from gems.nodes.base import Update
from gems.nodes.context import NodeContext
from gems.nodes.decomposer import whole_requirement
from gems.nodes.lessons import recall_lessons, recalls_update
from gems.nodes.prompts import ask_for_own_words, numbered, question
from gems.nodes.rewrite import keeps_words, put_words_first, restore_lost, rewrite_prompt
from gems.skills.models import Skill, SkillRegistry
from gems.skills.ranking import SkillRanking
from gems.state import State
from gems.types import Plan

MAX_SKILLS = 3
_CATALOGUE_TOKENS = 2_000


async def plan(state: State, work: NodeContext) -> Update:
    """Choose skills and set the first prompt."""
    prompt, options = state["prompt"], state["options"]
    generator = work.context.generator.capabilities
    if options["negative_prompt"] and not generator.negative_prompts:
        work.warn(f"{generator.model} takes no negative prompt: what is given makes no difference.")
    chosen = await choose_skills(prompt, options["skills"], work)
    found = await recall_lessons(state, work, 1)
    first = await prepare_prompt(prompt, numbered(map(format_lesson, found)), work)
    work.emit(Planned(plan=chosen | {"prompt": first}))
    return {"plan": chosen | {"prompt": first}, "current_prompt": first} | recalls_update(1, found)


async def prepare_prompt(prompt: str, learnt: str, work: NodeContext) -> str:
    """Return the first prompt: the user's own, rewritten if there are lessons of earlier runs."""
    if not learnt:
        return prompt
    slots = {"user_prompt": prompt, "lessons": learnt}
    asked = question("prepare", slots, editing=work.is_editing, prompt_tokens=work.prompt_tokens)
    new = await rewrite_prompt(ask_for_own_words(asked) if keeps_words(prompt, work) else asked, prompt, work)
    if keeps_words(prompt, work):
        return put_words_first(new, prompt)
    # The requirements are being listed meanwhile.
    return (await restore_lost(new, prompt, [whole_requirement(prompt)], work)).prompt


async def choose_skills(prompt: str, wanted: str, work: NodeContext) -> Plan:
    """Return the plan for a prompt: the user's choice of skills, or the model's.

    `wanted` is `auto`, `none`, or names separated by commas. An unusable reply only causes a warning.
    """
    registry, skills = work.context.skills, list[str]()
    if wanted == "none":
        why = "The user chose no skills."
    elif wanted != "auto":
        skills, why = parse_skill_names(wanted, registry), "The user chose."
    elif not registry.all() and work.profile != "paper":
        # The paper's pattern asks even without any skill.
        why = "No skills are available."
    else:
        shown = format_catalogue(await _skills_to_show(prompt, work))
        try:
            reply = await work.ask(question("route", {"user_prompt": prompt, "skills": shown}))
        except UnreachableError:
            raise
        except ProviderError as error:
            work.warn(f"Skills could not be chosen: {error}")
            why = "The planner's reply was unusable."
        else:
            skills, why = _valid_choices(reply, work), reply.form(SkillChoice).why
    return {"skills": skills, "why": why, "prompt": prompt}


async def _skills_to_show(prompt: str, work: NodeContext) -> list[Skill]:
    """Return the skills to choose from; if there are many, the most relevant ones."""
    skills, ranking = work.context.skills.all(), work.context.ranking or SkillRanking()
    try:
        return await work.within_limits(ranking.most_relevant(skills, prompt))
    except (LimitReached, InternalError):
        raise
    except GemsError as error:
        work.warn(f"Skills are ranked by words only: {error}")
        return await SkillRanking().most_relevant(skills, prompt)


def format_catalogue(skills: Sequence[Skill]) -> str:
    """Format the skills for the planner, one line each; descriptions in too long lists are truncated."""
    lines = [f"{skill.name}: {' '.join(skill.description.split())}" for skill in skills]
    if sum(map(estimate_tokens, lines)) <= _CATALOGUE_TOKENS:
        return "\n".join(lines)
    most = _CATALOGUE_TOKENS // len(lines)
    return "\n".join(_truncate_line(line, most) for line in lines)


def _truncate_line(line: str, most: int) -> str:
    if estimate_tokens(line) <= most:
        return line
    size = bisect_right(range(1, len(line) + 1), most - 1, key=lambda length: estimate_tokens(line[:length]))
    return f"{line[:size].rstrip()} …"


def parse_skill_names(wanted: str, registry: SkillRegistry) -> list[str]:
    """Return the named skills; OptionError if one is unknown, there are more than three, or two conflict."""
    names = [name for name in (part.strip() for part in wanted.split(",")) if name]
    skills = list(dict.fromkeys(registry.named(name).name for name in names))
    if len(skills) > MAX_SKILLS:
        raise OptionError(f"{len(skills)} skills were named; at most {MAX_SKILLS} are allowed.")
    for index, name in enumerate(skills):
        if against := find_conflict(name, skills[:index], registry):
            raise OptionError(f"The skills {against} and {name} conflict.", hint="Name only one of them.")
    return skills


def find_conflict(name: str, others: Sequence[str], registry: SkillRegistry) -> str | None:
    """Return the first of `others` that conflicts with the skill `name`, or None."""

    def conflicts(one: str, other: str) -> bool:
        skill = registry.get(one)
        return skill is not None and other in skill.conflicts

    return next((other for other in others if conflicts(name, other) or conflicts(other, name)), None)


def _valid_choices(reply: ChatReply, work: NodeContext) -> list[str]:
    """Return the known skills that the model named; others are warned about."""
    skills: list[str] = []
    for name in reply.form(SkillChoice).skills:
        found = work.context.skills.match(name)
        if found is None:
            work.warn(f"The planner chose an unknown skill: {name[:80]!r}.")
        elif against := find_conflict(found, skills, work.context.skills):
            work.warn(f"The planner chose {found}, which conflicts with {against}; {found} is not used.")
        elif found not in skills:
            skills.append(found)
    return skills[:MAX_SKILLS]
