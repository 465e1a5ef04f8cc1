"""Decomposer: turn the user's prompt into yes/no requirements."""

from __future__ import annotations

from collections.abc import Sequence

from gems.errors import ProviderError, UnreachableError
from gems.events import RequirementsListed
from gems.models.schemas import RequirementReply, RequirementsReply
from gems.nodes.base import Update
from gems.nodes.context import NodeContext
from gems.nodes.prompts import question
from gems.state import State
from gems.types import Requirement

MAX_REQUIREMENTS = 20
_ATTEMPTS = 2


async def decompose(state: State, work: NodeContext) -> Update:
    """List the requirements of the user's prompt, never of an enhanced one."""
    requirements = await state_requirements(state["prompt"], work)
    work.emit(RequirementsListed(requirements=requirements))
    return {"requirements": requirements}


async def state_requirements(prompt: str, work: NodeContext) -> list[Requirement]:
    """Return 1 to 20 requirements; a single one about the whole prompt if the model states none."""
    fault = "the model stated none"
    for attempt in range(_ATTEMPTS):
        try:
            asked = question("decompose", {"user_prompt": prompt}, attempt=attempt, editing=work.is_editing)
            reply = await work.ask(asked)
        except UnreachableError:
            raise
        except ProviderError as error:
            fault = str(error)
            break
        if requirements := clean_requirements(reply.form(RequirementsReply).requirements):
            return requirements
    work.warn(f"The prompt could not be decomposed, so the image is only checked as a whole: {fault}")
    return [{"id": "r1", "question": f"Does this image show: {prompt}?", "kind": "other", "parents": []}]


def normalize_question(text: str) -> str:
    """Return the same text for questions that differ only in spaces, case or the end."""
    return " ".join(text.split()).casefold().rstrip("?. ")


def clean_requirements(stated: Sequence[RequirementReply]) -> list[Requirement]:
    """Return at most 20 different requirements; parents, given as positions from 1, are earlier ones only."""
    kept: list[Requirement] = []
    ids_by_position: dict[int, str] = {}
    ids_by_text: dict[str, str] = {}
    for position, item in enumerate(stated, 1):
        text = " ".join(item.question.split())
        same = normalize_question(text)
        if same in ids_by_text:
            ids_by_position[position] = ids_by_text[same]
        elif same and len(kept) < MAX_REQUIREMENTS:
            name = f"r{len(kept) + 1}"
            parents = [ids_by_position[p] for p in item.parents if p < position and p in ids_by_position]
            kept.append({"id": name, "question": text, "kind": item.kind, "parents": list(dict.fromkeys(parents))})
            ids_by_position[position] = ids_by_text[same] = name
    return kept
