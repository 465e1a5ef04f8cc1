"""The skills that can be chosen at one moment, by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gems.errors import OptionError
from gems.skills.discovery import ScannedSkill
from gems.skills.models import Skill
from gems.skills.parser import normalise_name


class SkillRegistry:
    """Skills by name; never changes.

    Args:
        skills: A later one stands in for an earlier one of the same name.
        left_out: What was found and cannot be chosen.
    """

    def __init__(self, skills: Iterable[Skill] = (), left_out: Sequence[ScannedSkill] = ()) -> None:
        self._skills = {skill.name: skill for skill in skills}
        self.left_out = tuple(left_out)

    def all(self) -> list[Skill]:
        """All skills, by name."""
        return [self._skills[name] for name in sorted(self._skills)]

    def get(self, name: str) -> Skill | None:
        """The skill of exactly this name, or None."""
        return self._skills.get(name)

    def named(self, wanted: str) -> Skill:
        """The skill that a model or a person means; see `match`.

        Raises:
            OptionError: there is none.
        """
        skill = self.get(self.match(wanted) or "")
        if skill is None:
            known = ", ".join(sorted(self._skills)) or "there are none yet"
            raise OptionError(f"There is no skill {wanted[:80]!r}.", hint=f"Known skills: {known}.")
        return skill

    def match(self, answered: str) -> str | None:
        """The skill that a model or a person means, or None.

        Case, punctuation and underscores do not matter; a first word is enough where it fits one skill only.
        """
        wanted = normalise_name(answered).removeprefix("skill-id-")
        if wanted in self._skills:
            return wanted
        fitting = [name for name in self._skills if wanted and name.startswith(f"{wanted}-")]
        return fitting[0] if len(fitting) == 1 else None
