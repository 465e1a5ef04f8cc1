"""Registry of the skills that can be chosen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gems.errors import OptionError
from gems.skills.models import ScannedSkill, Skill, normalise_name


class SkillRegistry:
    """Immutable registry of skills by name.

    Args:
        skills: A later one replaces an earlier one of the same name.
        left_out: Found skills that cannot be chosen.
    """

    def __init__(self, skills: Iterable[Skill] = (), left_out: Sequence[ScannedSkill] = ()) -> None:
        self._skills = {skill.name: skill for skill in skills}
        self.left_out = tuple(left_out)

    def all(self) -> list[Skill]:
        """Return all skills, sorted by name."""
        return [self._skills[name] for name in sorted(self._skills)]

    def get(self, name: str) -> Skill | None:
        """Return the skill of exactly this name, or None."""
        return self._skills.get(name)

    def named(self, wanted: str) -> Skill:
        """Return the skill that a model or a person means, see `match`; raise `OptionError` without one."""
        skill = self.get(self.match(wanted) or "")
        if skill is None:
            known = ", ".join(sorted(self._skills)) or "there are none yet"
            raise OptionError(f"Unknown skill: {wanted[:80]!r}.", hint=f"Known skills: {known}.")
        return skill

    def match(self, answered: str) -> str | None:
        """Return the name of the skill that a model or a person means, or None.

        Case, punctuation and underscores do not matter; the first word suffices if it fits only one skill.
        """
        wanted = normalise_name(answered).removeprefix("skill-id-")
        if wanted in self._skills:
            return wanted
        fitting = [name for name in self._skills if wanted and name.startswith(f"{wanted}-")]
        return fitting[0] if len(fitting) == 1 else None
