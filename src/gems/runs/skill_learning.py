"""Drafts written from piles of lessons, each under a name of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gems.errors import InternalError
from gems.memory.piling import LessonGroup
from gems.skill_authoring import Author, Guidance, append_lessons, list_lessons, valid_name
from gems.skill_reports import SkillDraft
from gems.skills.models import Skill
from gems.skills.reading import read_body
from gems.skills.scaffold import Draft, drafts_folder, standard_fields, write_draft

LEAST = 5
GENERATOR, KINDS, SOURCES, STAMP = "gems-generator", "gems-kinds", "gems-sources", "gems-lessons"
"""Keys of a draft's metadata: whose lessons, about what, how many, and a digest of which."""
Metadata = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be proposed.

    Attributes:
        least: Lessons of one kind that a proposal needs.
        generator: Only from lessons about this generator.
        use_model: Whether the reflector's chat model writes; a plain list of the best lessons otherwise.
        force: Whether drafts that exist are replaced.
        dry_run: Only say what would be written.
    """

    least: int = LEAST
    generator: str | None = None
    use_model: bool = True
    force: bool = False
    dry_run: bool = False


class Drafter:
    """Writes the drafts of one call, each under a name of its own."""

    def __init__(
        self, home: Path, wish: Wish, author: Author | None, skills: Mapping[str, Skill], there: Metadata
    ) -> None:
        self._home, self._wish, self._author = home, wish, author
        self._skills, self._there = skills, there
        self._taken = {*skills, *there}

    async def draft(self, pile: LessonGroup, prompts: Sequence[str]) -> SkillDraft:
        """Draft what a pile is worth.

        Raises:
            SkillError: the skill that is to be amended cannot be read.
        """
        before = self._before(pile)
        if before is not None and not self._wish.force:
            return self._report(pile, before, "exists")
        if self._wish.dry_run:
            return self._report(pile, before or pile.skill or self._free(_named_after(pile), pile), "planned")
        skill = self._skills[pile.skill] if pile.skill is not None else None
        body = (await read_body(skill)).strip() if skill is not None else ""
        guidance = await self._author.write(pile, body) if self._author else Guidance()
        name = pile.skill or before or self._free(guidance.name or _named_after(pile), pile)
        draft = await asyncio.to_thread(self._checked, pile, name, guidance, body, prompts)
        self._taken.add(name)
        await asyncio.to_thread(write_draft, self._home, draft, force=self._wish.force)
        written = self._report(pile, name, "written")
        return written.model_copy(
            update={
                "by": "model" if draft.body == guidance.body else "list",
                "examples": len(prompts),
                "warnings": draft.warnings,
            }
        )

    def _before(self, pile: LessonGroup) -> str | None:
        """The draft that there is already of the same matter."""
        if pile.skill is not None:
            return pile.skill if pile.skill in self._there else None
        matter = (pile.generator, " ".join(pile.kinds))
        return next(
            (
                name
                for name, data in self._there.items()
                if name not in self._skills and (data.get(GENERATOR), data.get(KINDS)) == matter
            ),
            None,
        )

    def _free(self, wanted: str, pile: LessonGroup) -> str:
        """A name that neither a skill nor a draft has: accepting the draft must take no skill's place."""
        if wanted not in self._taken:
            return wanted
        named = valid_name(f"{wanted}-{pile.generator}") or wanted
        numbered = (valid_name(f"{wanted[:50]}-{number}") for number in range(2, len(self._taken) + 3))
        return next(name for name in (named, *numbered) if name and name not in self._taken)

    def _checked(
        self, pile: LessonGroup, name: str, guidance: Guidance, body: str, prompts: Sequence[str]
    ) -> Draft:
        """The draft in the model's words; with the plain list where these make no sound skill. Blocking."""
        skill = self._skills[pile.skill] if pile.skill is not None else None
        listed = append_lessons(body, pile) if skill is not None else list_lessons(name, pile)
        warnings = list(guidance.warnings)
        if skill is not None and skill.code:
            warnings.append("The skill brings code, which runs once the draft stands among your skills.")
        for text, description in ((guidance.body, guidance.description), (listed, "")):
            if not text:
                continue
            fields = self._fields(pile, name, description, skill)
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
            warnings.append(f"The plain list stands for what the chat model wrote: {' '.join(faults)}")
        raise InternalError(f"The draft {name} is no sound skill: {' '.join(faults)}")

    def _fields(
        self, pile: LessonGroup, name: str, description: str, skill: Skill | None
    ) -> dict[str, object]:
        about = ", ".join(pile.kinds)
        plain = (
            f"What earlier runs learnt about requirements of the kind {about}. For prompts whose main "
            f"difficulty is of this kind; not for plain ones."
        )
        fields: dict[str, object] = {"name": name, "description": description or plain}
        metadata: dict[str, str] = {}
        if skill is not None:
            # The model is not shown the description, which says when the skill is chosen: it stays.
            fields = standard_fields(skill)
            metadata = dict(fields.get("metadata") or {})  # type: ignore[call-overload]
        own = {
            GENERATOR: pile.generator,
            KINDS: " ".join(pile.kinds),
            SOURCES: str(len(pile.evidence)),
            STAMP: pile.stamp,
        }
        return fields | {"metadata": metadata | own}

    def _report(self, pile: LessonGroup, name: str, state: str) -> SkillDraft:
        return SkillDraft.model_validate(
            {
                "name": name,
                "amends": pile.skill is not None,
                "generator": pile.generator,
                "kinds": list(pile.kinds),
                "lessons": len(pile.evidence),
                "by": None,
                "state": state,
                "folder": str(drafts_folder(self._home) / name),
                "examples": 0,
                "warnings": [],
            }
        )


def _named_after(pile: LessonGroup) -> str:
    return f"learnt-{pile.kinds[0]}"
