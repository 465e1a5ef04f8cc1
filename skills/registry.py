"""The skills that can be chosen. Folders of skills are not read yet: a caller passes skills in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_NOT_A_NAME = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """Expertise that the planner can choose.

    Attributes:
        name: Lower-case letters, digits and single hyphens.
        description: What it is for and when to use it; all that the planner sees.
        body: The guidance, shown to the model only once the skill is chosen.
    """

    name: str
    description: str
    body: str


class SkillRegistry:
    """Skills by name.

    Args:
        skills: A later one stands in for an earlier one of the same name.
    """

    def __init__(self, skills: Iterable[Skill] = ()) -> None:
        self._skills = {skill.name: skill for skill in skills}

    def all(self) -> list[Skill]:
        """All skills, by name."""
        return [self._skills[name] for name in sorted(self._skills)]

    def match(self, answered: str) -> str | None:
        """The skill that a model or a person means, or None.

        Case, punctuation and underscores do not matter; a first word is enough where it fits one skill only.
        """
        wanted = _NOT_A_NAME.sub("-", answered.lower()).strip("-").removeprefix("skill-id-")
        if wanted in self._skills:
            return wanted
        fitting = [name for name in self._skills if wanted and name.startswith(f"{wanted}-")]
        return fitting[0] if len(fitting) == 1 else None
