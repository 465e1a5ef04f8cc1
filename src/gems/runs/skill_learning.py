"""Draft skills from groups of lessons, each under a unique name."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gems.errors import InternalError
from gems.memory.piling import LessonGroup
from gems.skill_authoring import Author, Guidance, append_lessons, list_lessons, valid_name
from gems.skills.files import read_body
from gems.skills.models import Skill
from gems.skills.reports import SkillDraft
from gems.skills.scaffold import Draft, drafts_folder, standard_fields, write_draft

MIN_LESSONS = 5
GENERATOR, KINDS, SOURCES, STAMP = "gems-generator", "gems-kinds", "gems-sources", "gems-lessons"
"""Keys of a draft's metadata: generator, kinds, number and digest of its lessons."""
Metadata = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftRequest:
    """A request for skill drafts.

    Attributes:
        least: Minimum number of lessons of one kind.
        generator: Only lessons about this generator.
        use_model: Whether the reflector's chat model writes; otherwise a list of the best lessons is used.
        force: Replace existing drafts.
        dry_run: Only report what would be written.
    """

    least: int = MIN_LESSONS
    generator: str | None = None
    use_model: bool = True
    force: bool = False
    dry_run: bool = False


class DraftWriter:
    """Writes the drafts of one call, each under a unique name."""

    def __init__(
        self,
        home: Path,
        request: DraftRequest,
        author: Author | None,
        skills: Mapping[str, Skill],
        existing: Metadata,
    ) -> None:
        self._home, self._request, self._author = home, request, author
        self._skills, self._existing = skills, existing
        self._taken = {*skills, *existing}

    async def draft(self, group: LessonGroup, prompts: Sequence[str]) -> SkillDraft:
        """Draft a skill from a group; SkillError if the skill to amend cannot be read."""
        existing_name = self._existing_draft(group)
        if existing_name is not None and not self._request.force:
            return self._report(group, existing_name, "exists")
        if self._request.dry_run:
            return self._report(
                group,
                existing_name or group.skill or self._unused_name(_default_name(group), group),
                "planned",
            )
        skill = self._skills[group.skill] if group.skill is not None else None
        body = (await read_body(skill)).strip() if skill is not None else ""
        guidance = await self._author.write(group, body) if self._author else Guidance()
        name = group.skill or existing_name or self._unused_name(guidance.name or _default_name(group), group)
        draft = await asyncio.to_thread(self._build_draft, group, name, guidance, body, prompts)
        self._taken.add(name)
        await asyncio.to_thread(write_draft, self._home, draft, force=self._request.force)
        written = self._report(group, name, "written")
        return written.model_copy(
            update={
                "by": "model" if draft.body == guidance.body else "list",
                "examples": len(prompts),
                "warnings": draft.warnings,
            }
        )

    def _existing_draft(self, group: LessonGroup) -> str | None:
        """Return the existing draft for the same skill, or the same generator and kinds."""
        if group.skill is not None:
            return group.skill if group.skill in self._existing else None
        key = (group.generator, " ".join(group.kinds))
        return next(
            (
                name
                for name, data in self._existing.items()
                if name not in self._skills and (data.get(GENERATOR), data.get(KINDS)) == key
            ),
            None,
        )

    def _unused_name(self, base_name: str, group: LessonGroup) -> str:
        """Return a name that neither a skill nor a draft has, so that a draft never replaces a skill."""
        if base_name not in self._taken:
            return base_name
        named = valid_name(f"{base_name}-{group.generator}") or base_name
        numbered = (valid_name(f"{base_name[:50]}-{number}") for number in range(2, len(self._taken) + 3))
        return next(name for name in (named, *numbered) if name and name not in self._taken)

    def _build_draft(
        self, group: LessonGroup, name: str, guidance: Guidance, body: str, prompts: Sequence[str]
    ) -> Draft:
        """Build the draft from the model's text, or from the list of lessons if that is invalid. Blocking."""
        skill = self._skills[group.skill] if group.skill is not None else None
        listed = append_lessons(body, group) if skill is not None else list_lessons(name, group)
        warnings = list(guidance.warnings)
        if skill is not None and skill.code:
            warnings.append("The skill has code, which is executed once the draft is among your skills.")
        for text, description in ((guidance.body, guidance.description), (listed, "")):
            if not text:
                continue
            fields = self._fields(group, name, description, skill)
            draft = Draft(
                name=name,
                fields=fields,
                body=text,
                prompts=prompts,
                source=skill.folder if skill is not None else None,
                warnings=warnings,
            )
            faults = draft.faults()
            if not faults:
                return draft
            warnings.append(
                f"The list of lessons is used instead of the chat model's text: {' '.join(faults)}"
            )
        raise InternalError(f"The draft {name} is not a valid skill: {' '.join(faults)}")

    def _fields(
        self, group: LessonGroup, name: str, description: str, skill: Skill | None
    ) -> dict[str, object]:
        about = ", ".join(group.kinds)
        plain = (
            f"What earlier runs learnt about requirements of the kind {about}. For prompts whose main "
            f"difficulty is of this kind; not for plain ones."
        )
        fields: dict[str, object] = {"name": name, "description": description or plain}
        metadata: dict[str, str] = {}
        if skill is not None:
            # The description decides when the skill is chosen; the model does not see it, so it stays.
            fields = standard_fields(skill)
            metadata = dict(fields.get("metadata") or {})  # type: ignore[call-overload]
        own = {
            GENERATOR: group.generator,
            KINDS: " ".join(group.kinds),
            SOURCES: str(len(group.evidence)),
            STAMP: group.stamp,
        }
        return fields | {"metadata": metadata | own}

    def _report(self, group: LessonGroup, name: str, state: str) -> SkillDraft:
        return SkillDraft.model_validate(
            {
                "name": name,
                "amends": group.skill is not None,
                "generator": group.generator,
                "kinds": list(group.kinds),
                "lessons": len(group.evidence),
                "by": None,
                "state": state,
                "folder": str(drafts_folder(self._home) / name),
                "examples": 0,
                "warnings": [],
            }
        )


def _default_name(group: LessonGroup) -> str:
    return f"learnt-{group.kinds[0]}"
