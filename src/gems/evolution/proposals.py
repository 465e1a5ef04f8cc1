"""Propose patches, from failures, lessons and counts by the chat model, and from drafts of `gems skills learn`.

Whatever is proposed is checked and stored, and changes no run before it is adopted.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from gems.errors import GemsError, RequestError, SkillError
from gems.evolution.validation import apply_patches, check_patch, read_text
from gems.memory.patches import Patch, Value
from gems.memory.retrieval import estimate_tokens
from gems.models.chat.schemas import AmendmentReply, AmendmentsReply
from gems.nodes.prompts import PATCHED_TASKS, numbered, question
from gems.options import OPTIONS, RULES
from gems.runs.memory_admin import MemoryAdmin, StepRecord
from gems.runs.skill_learning import SOURCES, Evidence, collect_evidence
from gems.service import Gems
from gems.skills.discovery import read_skill
from gems.skills.files import read_body
from gems.skills.models import Skill
from gems.skills.scaffold import drafts_folder, known_drafts

_MOST_RUNS = 20
"""Newest runs whose failures are shown, and runs that are named as reasons."""
_MOST_TOKENS = 4_000
"""Of the lessons that are shown, and of the skills."""


class Proposals(NamedTuple):
    """Patches that can be tried, and why others cannot."""

    patches: list[Patch]
    refused: list[str]


async def propose_patches(gems: Gems, base: Sequence[Patch]) -> Proposals:
    """Return what the chat model proposes, on top of the patches of `base`, and drafts of amended skills.

    Raises:
        ProviderError: The chat model gave no usable answer.
        ConfigurationError: Memory is off.
    """
    patches, refused = await _from_drafts(gems)
    evidence, steps = await _read_memory(gems)
    if evidence:
        asked, runs = await _ask(gems, evidence, steps, base)
        for amendment in asked.amendments:
            try:
                patches.append(_to_patch(amendment, runs))
            except ValidationError as error:
                fault = error.errors()[0]["msg"].removeprefix("Value error, ")
                refused.append(f"The chat model's change of {amendment.kind} {amendment.target[:80]!r}: {fault}.")
    usable: dict[str, Patch] = {}
    for patch in patches:
        try:
            await check_patch(patch, gems.resources, base)
        except RequestError as error:
            refused.append(str(error))
        else:
            usable.setdefault(patch.id, patch)
    return Proposals(list(usable.values()), refused)


async def _read_memory(gems: Gems) -> tuple[list[Evidence], list[StepRecord]]:
    memories = MemoryAdmin(gems.resources)
    await memories.flush()
    generator = gems.resources.generator.capabilities.model
    items = await memories.listed(generator=generator)
    lessons, experiences = (
        {memory.key: memory.value for memory in items if memory.kind == kind} for kind in ("lesson", "experience")
    )
    steps = [step for step in (await memories.stats()).steps if step.generator == generator]
    return collect_evidence(lessons, experiences)[0], steps


async def _ask(
    gems: Gems, evidence: Sequence[Evidence], steps: Sequence[StepRecord], base: Sequence[Patch]
) -> tuple[AmendmentsReply, tuple[str, ...]]:
    shown = _within_tokens(evidence)
    runs = tuple(dict.fromkeys(run for item in shown for run, _ in item.sources))[:_MOST_RUNS]
    counts = [
        f"{step.action} for {step.kind}: better {step.improved}, not better {step.not_improved}" for step in steps
    ]
    slots = {
        "failures": numbered(await _list_failures(gems)),
        "lessons": numbered(item.line for item in shown),
        "counts": numbered(counts),
        "texts": await _list_texts(gems, shown, base),
    }
    reply = await gems.resources.chats["reflector"].ask(question("amend", slots))
    return reply.form(AmendmentsReply), runs


def _within_tokens(evidence: Sequence[Evidence]) -> list[Evidence]:
    shown, room = [], _MOST_TOKENS
    for item in sorted(evidence, key=lambda item: (-len(item.sources), item.key)):
        room -= estimate_tokens(item.line)
        if room < 0:
            break
        shown.append(item)
    return shown


async def _list_failures(gems: Gems) -> list[str]:
    """Return what the newest finished runs do not meet, with evidence."""
    found: dict[str, None] = {}
    for row in await gems.resources.ledger.runs(_MOST_RUNS):
        if row["summary"].get("score", 1.0) == 1.0 or row["run_id"].startswith("evolve-"):
            continue
        result = await gems.show(row["run_id"])
        found |= {f"{item.question} - {item.evidence}": None for item in result.requirements if item.answer == "no"}
    return list(found)


async def _list_texts(gems: Gems, evidence: Sequence[Evidence], base: Sequence[Patch]) -> str:
    """Return what may be changed, as it is now: wordings, the skills of these runs, the recipe, the rules."""
    resources = gems.resources
    used = {name for item in evidence for name in item.skills}
    listed: list[tuple[str, str]] = []
    for task in PATCHED_TASKS:
        like = Patch(kind="wording", target=task, after="-")
        listed.append((f"wording {task}", apply_patches(await read_text(like, resources), base, like)))
    room = _MOST_TOKENS
    for skill in sorted(resources.skills.current.all(), key=lambda skill: (skill.name not in used, skill.name)):
        like = Patch(kind="skill", target=skill.name, after="-")
        try:
            text = apply_patches(await read_body(skill), base, like)
        except GemsError:
            continue  # what does not fit or cannot be read, runs leave out and tell
        room -= estimate_tokens(text)
        if room < 0:
            break
        listed.append((f"skill {skill.name}", text.strip()))
    settings, generator = gems.settings.generator, resources.generator.capabilities
    recipe = {"guidance": settings.guidance, "steps": settings.steps, "negative_prompt": ""}
    listed.append((f"recipe {generator.model}", json.dumps(recipe)))
    listed += [(f"rule {name}", f"{OPTIONS[name].description} Now: {OPTIONS[name].default}.") for name in RULES]
    return "\n\n".join(f"## {head}\n{text}" for head, text in listed)


def _to_patch(amendment: AmendmentReply, runs: tuple[str, ...]) -> Patch:
    about: dict[str, Any] = {"kind": amendment.kind, "target": amendment.target.strip(), "runs": runs}
    about |= {"reason": amendment.reason[:2_000], "source": "chat model"}
    if amendment.kind in ("recipe", "rule"):
        name = amendment.name.strip() if amendment.kind == "recipe" else "value"
        return Patch.model_validate(about | {"values": {name: read_value(amendment.after)}})
    return Patch.model_validate(about | {"before": amendment.before, "after": amendment.after})


def read_value(text: str) -> Value:
    """Return a number if the text is one, else the text."""
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text.strip()


async def _from_drafts(gems: Gems) -> tuple[list[Patch], list[str]]:
    """Return the drafts that amend skills in use as patches of their whole guidance."""
    home, refused = gems.settings.home, []
    patches = []
    for name, metadata in (await asyncio.to_thread(known_drafts, home)).items():
        skill = gems.resources.skills.current.get(name)
        if skill is None:
            continue  # a new skill: it is tried by `gems skills test`, and moved by its author
        draft = await asyncio.to_thread(read_skill, drafts_folder(home) / name, "draft", trusted=False)
        if not isinstance(draft, Skill):
            refused.append(f"The draft {name}: {draft}")
            continue
        try:
            before, after = await read_body(skill), await read_body(draft)
            reason = f"Drafted from {metadata.get(SOURCES, 'some')} lessons."
            patches.append(
                Patch(kind="skill", target=name, before=before, after=after, reason=reason, source="gems skills learn")
            )
        except (SkillError, ValidationError) as error:
            message = error.message if isinstance(error, SkillError) else "it changes nothing."
            refused.append(f"The draft {name}: {message}")
    return patches, refused
