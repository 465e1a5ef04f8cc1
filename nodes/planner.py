"""The planner: a skill chosen, the first prompt."""

from __future__ import annotations

from gems.errors import OptionError, ProviderError, UnreachableError
from gems.events import Planned
from gems.models.chat.asking import ChatReply, Question
from gems.models.tasks import PromptReply, SkillChoice
from gems.nodes.learning import lesson_lines, lessons, recalled
from gems.nodes.node import Update
from gems.nodes.prompts import question
from gems.skills.registry import SkillRegistry
from gems.state import State
from gems.types import Plan
from gems.work import Work

MAX_SKILLS = 3


async def plan(state: State, work: Work) -> Update:
    """Choose skills, and set the first prompt to the user's own."""
    prompt, options = state["prompt"], state["options"]
    generator = work.context.generator.capabilities
    if options["negative_prompt"] and not generator.negative_prompts:
        work.warn(f"{generator.model} takes no negative prompt: what is given makes no difference.")
    chosen = await choose_skills(prompt, options["skills"], work)
    found = await lessons(state, work, 1)
    first = await prepared(prompt, lesson_lines(found), work)
    work.emit(Planned(plan=chosen | {"prompt": first}))
    return {"plan": chosen | {"prompt": first}, "draw_prompt": first} | recalled(1, found)


async def prepared(prompt: str, learnt: str, work: Work) -> str:
    """The first prompt: the user's own, rewritten by what earlier runs learnt where there is something.

    Raises:
        UnreachableError: nothing answers at the chat model's address.
        ConfigurationError: the chat model cannot be used as configured.
    """
    if not learnt:
        return prompt
    return await _rewritten(question("prepare", {"user_prompt": prompt, "lessons": learnt}), prompt, work)


async def choose_skills(prompt: str, wanted: str, work: Work) -> Plan:
    """The plan for a prompt: the user's choice of skills, or the model's.

    A plain request is left alone, and a model that does not answer usably costs no run.

    Args:
        prompt: The user's prompt.
        wanted: `auto`, `none`, or names separated by commas.
        work: This turn.

    Raises:
        OptionError: a name is no skill's.
        UnreachableError: nothing answers at the chat model's address.
        ConfigurationError: the chat model cannot be used as configured.
    """
    registry = work.context.skills
    if wanted == "none":
        return {"skills": [], "why": "The user wanted none.", "prompt": prompt}
    if wanted != "auto":
        return {"skills": named_skills(wanted, registry), "why": "The user chose.", "prompt": prompt}
    # The paper's pattern asks even where there is nothing to choose from.
    if not registry.all() and work.profile != "paper":
        return {"skills": [], "why": "There is no skill to choose from.", "prompt": prompt}
    catalogue = "\n".join(f"{skill.name}: {' '.join(skill.description.split())}" for skill in registry.all())
    try:
        reply = await work.ask(question("route", {"user_prompt": prompt, "skills": catalogue}))
    except UnreachableError:
        raise
    except ProviderError as error:
        work.warn(f"No skill could be chosen: {error}")
        return {"skills": [], "why": "The planner did not answer usably.", "prompt": prompt}
    return {"skills": _chosen(reply, work), "why": reply.form(SkillChoice).why, "prompt": prompt}


def named_skills(wanted: str, registry: SkillRegistry) -> list[str]:
    """The skills a user named, at most three.

    Raises:
        OptionError: a name is no skill's, or there are too many.
    """
    names = [name for name in (part.strip() for part in wanted.split(",")) if name]
    matched = [registry.match(name) for name in names]
    for name, found in zip(names, matched, strict=True):
        if found is None:
            known = ", ".join(skill.name for skill in registry.all()) or "there are none yet"
            raise OptionError(f"There is no skill {name!r}.", hint=f"Known skills: {known}.")
    skills = list(dict.fromkeys(found for found in matched if found is not None))
    if len(skills) > MAX_SKILLS:
        raise OptionError(f"{len(skills)} skills were named; at most {MAX_SKILLS} work together.")
    return skills


async def enhance(prompt: str, guidance: str, work: Work) -> str:
    """The prompt rewritten by a skill's guidance; as it was where the model does not answer usably.

    Raises:
        UnreachableError: nothing answers at the chat model's address.
        ConfigurationError: the chat model cannot be used as configured.
    """
    return await _rewritten(question("enhance", {"user_prompt": prompt, "skill": guidance}), prompt, work)


async def _rewritten(asked: Question, prompt: str, work: Work) -> str:
    try:
        reply = await work.ask(asked)
    except UnreachableError:
        raise
    except ProviderError as error:
        work.warn(f"The prompt could not be enhanced: {error}")
        return prompt
    return reply.form(PromptReply).prompt.strip() or prompt


def _chosen(reply: ChatReply, work: Work) -> list[str]:
    """Known skills among those the model named; others are told about and left out."""
    skills: list[str] = []
    for name in reply.form(SkillChoice).skills:
        found = work.context.skills.match(name)
        if found is None:
            work.warn(f"The planner chose {name[:80]!r}, which is no skill.")
        elif found not in skills:
            skills.append(found)
    return skills[:MAX_SKILLS]
