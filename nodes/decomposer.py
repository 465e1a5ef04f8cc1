"""Decomposer: turn the user's prompt into yes/no requirements."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from functools import partial

from gems.errors import LimitReached, ProviderError, UnreachableError
from gems.events import RequirementsListed
from gems.models.base import LimitedModel
from gems.models.chat.answer_words import OPEN_QUESTION
from gems.models.chat.schemas import MAX_REQUIREMENTS, QUESTION_MARKS, RequirementReply, RequirementsReply
from gems.nodes.base import Update
from gems.nodes.context import NodeContext
from gems.nodes.prompts import numbered, question
from gems.nodes.rewrite import keeps_own_words
from gems.nodes.vision_check import check_vision
from gems.state import State
from gems.types import Requirement

_REQUIREMENTS = "requirements"
_ATTEMPTS = 2
_FEWEST_WORDS = 3
_LATIN = re.compile(r"[A-Za-z]")
_BEGINS_QUESTION = re.compile(
    r"(?:is|are|was|were|does|do|did|has|have|had|can|could|will|would|should|isn't|aren't|doesn't|don't"
    r"|est-ce|y a-t-il|gibt es|ist|sind|hat|haben|hay|están?|es|son|tiene|há|c'è|ci sono|è|sono)\b",
    re.IGNORECASE,
)
"""Beginnings of yes/no questions; some models leave the question mark out."""


async def decompose(state: State, work: NodeContext) -> Update:
    """List the requirements of the user's prompt, never of an enhanced one, and find out whether the judge sees.

    Only skills and the judge need the requirements, so the first image does not wait for them: they are listed
    meanwhile, and `await_requirements` returns them.
    """
    if limits := explain_limits(state["prompt"], work):
        work.warn(limits)
    if work.profile == "paper" or not work.run_id:
        # Without an id nobody could find what was begun.
        return await _list_requirements(state, work)
    work.begin_ahead(_REQUIREMENTS, partial(_ask_requirements, state["prompt"]))
    await check_vision(work)
    return {"requirements": [], "unchecked": [], "listing": True}


async def await_requirements(state: State, work: NodeContext) -> Update:
    """Return the update with the requirements that are being listed; empty if they are known already."""
    if not state.get("listing"):
        return {}
    found = await work.join_ahead(_REQUIREMENTS)
    if found is None:
        # Another process began it; what it was answered is in the ledger.
        return await _list_requirements(state, work)
    requirements, unchecked = found
    return _listed_update(requirements, unchecked, work)


async def prepare_skills(state: State, work: NodeContext) -> Update:
    """Wait for the requirements if a chosen skill needs them, or if it is known already that there will be none."""
    skills = [work.context.skills.get(name) for name in state["plan"]["skills"]]
    needs = any(
        skill is None or skill.runs_code or not keeps_own_words(skill, state["prompt"], work) for skill in skills
    )
    # Nothing is drawn that cannot be judged, as with a wrong key or an address where nobody listens.
    is_doubtful = work.has_failed_ahead(_REQUIREMENTS) or not work.context.chats["planner"].has_answered
    return await await_requirements(state, work) if needs or is_doubtful else {}


async def _list_requirements(state: State, work: NodeContext) -> Update:
    """List the requirements, and find out meanwhile whether the judge sees."""
    stating = asyncio.ensure_future(state_requirements(state["prompt"], work))
    checking = asyncio.ensure_future(check_vision(work))
    try:
        (requirements, unchecked), _ = await asyncio.gather(stating, checking)
    finally:
        stating.cancel()
        checking.cancel()
        await asyncio.wait((stating, checking))
    return _listed_update(requirements, unchecked, work)


async def _ask_requirements(prompt: str, work: NodeContext) -> tuple[list[Requirement], list[str]]:
    return await state_requirements(prompt, work)


def _listed_update(requirements: list[Requirement], unchecked: list[str], work: NodeContext) -> Update:
    work.emit(RequirementsListed(requirements=requirements))
    return {"requirements": requirements, "unchecked": unchecked, "listing": False}


def explain_limits(prompt: str, work: NodeContext) -> str:
    """Return why the generator or the judge knows that the prompt is out of its reach; empty if neither does."""
    models = (work.context.generator, getattr(work.context.chats["judge"], "model", None))
    said = (model.explain_limits(prompt) for model in models if isinstance(model, LimitedModel))
    return next(filter(None, said), "")


async def state_requirements(prompt: str, work: NodeContext) -> tuple[list[Requirement], list[str]]:
    """Return 1 to 60 requirements, and what could not become one; one about the whole prompt if there are none."""
    fault, requirements, unchecked = "the model stated none", list[Requirement](), list[str]()
    for attempt in range(_ATTEMPTS):
        try:
            asked = question("decompose", {"user_prompt": prompt}, attempt=attempt, editing=work.is_editing)
            reply = await work.ask(asked)
        except UnreachableError:
            raise
        except ProviderError as error:
            fault = str(error)
            break
        stated, left_over = clean_requirements(reply.form(RequirementsReply).requirements)
        if stated and (not requirements or len(open_questions(stated)) < len(open_questions(requirements))):
            requirements, unchecked = stated, left_over
        if requirements and not open_questions(requirements):
            break
    if not requirements:
        work.warn(f"The prompt could not be decomposed, so the image is only checked as a whole: {fault}")
        return [whole_requirement(prompt)], []
    warn_unchecked(unchecked, work)
    return requirements, unchecked


def whole_requirement(prompt: str) -> Requirement:
    """Return the requirement that the image shows all of the prompt."""
    return {"id": "r1", "question": f"Does this image show: {prompt}?", "kind": "other", "parents": []}


async def complete_requirements(state: State, work: NodeContext) -> Update:
    """Ask once what the requirements leave out, and return the update with what is added; empty for nothing."""
    known = state["requirements"]
    slots = {"user_prompt": state["prompt"], "questions": numbered(item["question"] for item in known)}
    try:
        reply = await work.ask(question("complete", slots, editing=work.is_editing))
    except (ProviderError, LimitReached) as error:
        # The image that is drawn meanwhile is not lost for it.
        work.warn(f"Whether the requirements are complete could not be checked: {error}")
        return {}
    requirements, left_over = clean_requirements(reply.form(RequirementsReply).requirements, known)
    # At this point a question that yes cannot answer is of no use.
    opened = open_questions(requirements[len(known) :])
    requirements = [item for item in requirements if item["question"] not in opened]
    if len(requirements) == len(known) and not left_over:
        return {}
    warn_unchecked(left_over, work)
    work.emit(RequirementsListed(requirements=requirements))
    return {"requirements": requirements, "unchecked": [*(state.get("unchecked") or []), *left_over]}


def warn_unchecked(questions: Sequence[str], work: NodeContext) -> None:
    """Name what the prompt asks for beyond the largest number of requirements."""
    if questions:
        named = " ".join(questions)
        work.warn(f"The prompt has more than {MAX_REQUIREMENTS} requirements. Not checked: {named}")


def open_questions(requirements: Sequence[Requirement]) -> list[str]:
    """Return the questions that neither yes nor no answers."""
    return [item["question"] for item in requirements if OPEN_QUESTION.match(item["question"])]


def to_question(text: str) -> str:
    """Return a statement as a yes/no question, and questions unchanged; empty for a few words that say nothing."""
    if text.endswith(QUESTION_MARKS) or not _LATIN.search(text) or _BEGINS_QUESTION.match(text):
        return text
    return f"Is this true of the image: {text.rstrip('. ')}?" if len(text.split()) >= _FEWEST_WORDS else ""


def normalize_question(text: str) -> str:
    """Return the same text for questions that differ only in spaces, case or the end."""
    return " ".join(text.split()).casefold().rstrip("?. ")


def clean_requirements(
    stated: Sequence[RequirementReply], known: Sequence[Requirement] = ()
) -> tuple[list[Requirement], list[str]]:
    """Return at most 60 different requirements, and the questions beyond that.

    Parents are given as positions from 1, counted on from the `known` requirements, which come first; only earlier
    ones are kept.
    """
    kept, left_over = list(known), list[str]()
    ids_by_position = {position: item["id"] for position, item in enumerate(known, 1)}
    ids_by_text = {normalize_question(item["question"]): item["id"] for item in known}
    for position, item in enumerate(stated, len(known) + 1):
        text = to_question(" ".join(item.question.split()))
        same = normalize_question(text)
        if same in ids_by_text:
            ids_by_position[position] = ids_by_text[same]
        elif same and len(kept) < MAX_REQUIREMENTS:
            name = f"r{len(kept) + 1}"
            parents = [ids_by_position[p] for p in item.parents if p < position and p in ids_by_position]
            kept.append({"id": name, "question": text, "kind": item.kind, "parents": list(dict.fromkeys(parents))})
            ids_by_position[position] = ids_by_text[same] = name
        elif same:
            left_over.append(text)
    return kept, list(dict.fromkeys(left_over))
