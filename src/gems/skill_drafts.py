"""Propose skills from lessons: drafts that a person accepts, never active by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gems.errors import SkillError
from gems.memory.piling import LessonGroup, collect_evidence, group_evidence
from gems.options import MAX_PROMPT
from gems.resources import Resources
from gems.runs.memory_admin import MemoryAdmin
from gems.runs.skill_learning import GENERATOR, KINDS, STAMP, DraftRequest, DraftWriter, Metadata
from gems.skill_authoring import Author
from gems.skills.models import Skill
from gems.skills.reports import SkillDraft, SkillDrafts
from gems.skills.scaffold import known_drafts, known_metadata

_MAX_EXAMPLES = 20


async def propose_skills(
    memories: MemoryAdmin,
    resources: Resources,
    home: Path,
    request: DraftRequest,
    progress: Callable[[int, int], None] | None = None,
) -> SkillDrafts:
    """Draft a skill, or an amendment of one, from each group of lessons.

    Args:
        memories: The lessons and experiences.
        resources: The opened models, and the existing skills.
        home: GEMS_HOME.
        request: What to propose.
        progress: Called with the number of groups that are done, and their total.
    """
    await memories.flush()
    memory_items = await memories.listed(generator=request.generator)
    lessons = {memory.key: memory.value for memory in memory_items if memory.kind == "lesson"}
    experiences = {memory.key: memory.value for memory in memory_items if memory.kind == "experience"}
    evidence, refuted = collect_evidence(lessons, experiences)
    skills = {skill.name: skill for skill in resources.skills.current.all()}
    in_use = await asyncio.to_thread(_skill_metadata, skills)
    selection = _select_groups(
        group_evidence(evidence, request.least, _learned_skills(in_use)), skills, in_use
    )
    author = Author(resources.chats["reflector"]) if request.use_model else None
    existing = await asyncio.to_thread(known_drafts, home)
    drafter = DraftWriter(home, request, author, skills, existing)
    drafts: list[SkillDraft] = []
    for number, group in enumerate(selection.kept, 1):
        try:
            drafts.append(await drafter.draft(group, await _prompts(group, experiences, resources)))
        except SkillError as error:
            selection.left_out.append(f"{group.skill}: {error.message}")
        if progress is not None:
            progress(number, len(selection.kept))
    return SkillDrafts(
        lessons=len(evidence) + refuted, refuted=refuted, drafts=drafts, left_out=selection.left_out
    )


@dataclass
class _Selection:
    kept: list[LessonGroup] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def _skill_metadata(skills: Mapping[str, Skill]) -> dict[str, dict[str, str]]:
    return {name: known_metadata(skill.folder) for name, skill in skills.items() if skill.folder is not None}


def _learned_skills(in_use: Metadata) -> dict[tuple[str, str], str]:
    """Return generator and kind of the accepted skills that were drafted from lessons without a skill."""
    return {
        (data[GENERATOR], data[KINDS]): name
        for name, data in in_use.items()
        if GENERATOR in data and KINDS in data
    }


def _select_groups(
    memory_items: Sequence[LessonGroup], skills: Mapping[str, Skill], in_use: Metadata
) -> _Selection:
    """Select the groups to draft: only the largest about each skill, and none that it already includes."""
    result = _Selection()
    amended: dict[str, str] = {}
    for group in memory_items:
        count = f"{len(group.evidence)} lessons about {group.generator}"
        if group.skill is None:
            result.kept.append(group)
        elif group.skill not in skills:
            result.left_out.append(f"{group.skill}: {count}, but the skill no longer exists")
        elif in_use.get(group.skill, {}).get(STAMP) == group.stamp:
            result.left_out.append(f"{group.skill}: {count}, from which it was already written")
        elif group.skill in amended:
            result.left_out.append(
                f"{group.skill}: {count}, but only one amendment at a time: {amended[group.skill]} has more"
            )
        else:
            amended[group.skill] = group.generator
            result.kept.append(group)
    return result


async def _prompts(
    group: LessonGroup, experiences: Mapping[str, Mapping[str, str]], resources: Resources
) -> list[str]:
    """Return known prompts of the runs that a group's lessons come from."""
    prompts: dict[str, None] = {}
    known = {(value["run"]): value["prompt"] for value in experiences.values()}
    for run in dict.fromkeys(run for item in group.evidence for run, _ in item.sources):
        prompt = known.get(run)
        if prompt is None:
            row = await resources.ledger.run(run)
            prompt = row["prompt"] if row else ""
        if prompt.strip() and len(prompt) <= MAX_PROMPT:
            prompts[prompt] = None
        if len(prompts) == _MAX_EXAMPLES:
            break
    return list(prompts)
