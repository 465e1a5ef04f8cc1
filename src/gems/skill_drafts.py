"""Skills proposed from what runs have learnt: drafts that a person accepts, never active by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gems.errors import SkillError
from gems.memory.piling import LessonGroup, collect_evidence, group_evidence
from gems.options import MAX_PROMPT
from gems.resources import Resources
from gems.runs.memory_admin import Memories
from gems.runs.skill_learning import GENERATOR, KINDS, STAMP, Drafter, Metadata, Wish
from gems.skill_authoring import Author
from gems.skill_reports import SkillDraft, SkillDrafts
from gems.skills.models import Skill
from gems.skills.scaffold import known_drafts, known_metadata

_MOST_EXAMPLES = 20


async def propose(
    memories: Memories,
    resources: Resources,
    home: Path,
    wish: Wish,
    progress: Callable[[int, int], None] | None = None,
) -> SkillDrafts:
    """Draft a skill, or an amendment of one, from each pile of lessons.

    Args:
        memories: What runs have learnt.
        resources: The opened models, and the skills there are.
        home: GEMS_HOME.
        wish: What is wanted.
        progress: Told how many piles are done, of how many.

    Raises:
        OptionError: memory is off.
        UnreachableError: nothing answers at the reflector's address.
        ConfigurationError: its chat model cannot be used as configured.
        StorageError: a draft cannot be written.
    """
    await memories.flush()
    found = await memories.listed(generator=wish.generator)
    lessons = {memory.key: memory.value for memory in found if memory.kind == "lesson"}
    experiences = {memory.key: memory.value for memory in found if memory.kind == "experience"}
    evidence, refuted = collect_evidence(lessons, experiences)
    skills = {skill.name: skill for skill in resources.skills.current.all()}
    in_use = await asyncio.to_thread(_metadata, skills)
    sorted_out = _sorted_out(group_evidence(evidence, wish.least, _learnt(in_use)), skills, in_use)
    author = Author(resources.chats["reflector"]) if wish.use_model else None
    there = await asyncio.to_thread(known_drafts, home)
    drafter = Drafter(home, wish, author, skills, there)
    drafts: list[SkillDraft] = []
    for number, pile in enumerate(sorted_out.kept, 1):
        try:
            drafts.append(await drafter.draft(pile, await _prompts(pile, experiences, resources)))
        except SkillError as error:
            sorted_out.left_out.append(f"{pile.skill}: {error.message}")
        if progress is not None:
            progress(number, len(sorted_out.kept))
    return SkillDrafts(
        lessons=len(evidence) + refuted, refuted=refuted, drafts=drafts, left_out=sorted_out.left_out
    )


@dataclass
class _Sorted:
    kept: list[LessonGroup] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def _metadata(skills: Mapping[str, Skill]) -> dict[str, dict[str, str]]:
    return {name: known_metadata(skill.folder) for name, skill in skills.items() if skill.folder is not None}


def _learnt(in_use: Metadata) -> dict[tuple[str, str], str]:
    """Generator and kind of the skills that were drafted from lessons without a skill and accepted."""
    return {
        (data[GENERATOR], data[KINDS]): name
        for name, data in in_use.items()
        if GENERATOR in data and KINDS in data
    }


def _sorted_out(found: Sequence[LessonGroup], skills: Mapping[str, Skill], in_use: Metadata) -> _Sorted:
    """The piles to write of: of several about one skill the greatest, and none that it knows already."""
    result = _Sorted()
    amended: dict[str, str] = {}
    for pile in found:
        count = f"{len(pile.evidence)} lessons about {pile.generator}"
        if pile.skill is None:
            result.kept.append(pile)
        elif pile.skill not in skills:
            result.left_out.append(f"{pile.skill}: {count}, but there is no such skill anymore")
        elif in_use.get(pile.skill, {}).get(STAMP) == pile.stamp:
            result.left_out.append(f"{pile.skill}: {count}, which it was written from already")
        elif pile.skill in amended:
            result.left_out.append(
                f"{pile.skill}: {count}, but one amendment at a time: more are about {amended[pile.skill]}"
            )
        else:
            amended[pile.skill] = pile.generator
            result.kept.append(pile)
    return result


async def _prompts(
    pile: LessonGroup, experiences: Mapping[str, Mapping[str, str]], resources: Resources
) -> list[str]:
    """Prompts of the runs that a pile's lessons come from, as far as they are known."""
    prompts: dict[str, None] = {}
    known = {(value["run"]): value["prompt"] for value in experiences.values()}
    for run in dict.fromkeys(run for item in pile.evidence for run, _ in item.sources):
        prompt = known.get(run)
        if prompt is None:
            row = await resources.ledger.run(run)
            prompt = row["prompt"] if row else ""
        if prompt.strip() and len(prompt) <= MAX_PROMPT:
            prompts[prompt] = None
        if len(prompts) == _MOST_EXAMPLES:
            break
    return list(prompts)
