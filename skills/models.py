"""Skills, findings about their files, and the registry."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gems.errors import OptionError

BUILT_IN = "built-in"
Level = Literal["unusable", "nonstandard", "advice"]
"""`unusable` prevents the use; `nonstandard` violates the Agent Skills standard with a clear meaning."""


class SkillFinding(BaseModel):
    """Something about a skill's files that its author should know."""

    model_config = ConfigDict(frozen=True)

    file: str = Field(description="Path relative to the skill's folder.")
    line: int = Field(description="From 1; 0 for the file as a whole.")
    level: Level = Field(description="unusable, nonstandard, or advice.")
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.message}"


def unusable(file: str, message: str, line: int = 0) -> SkillFinding:
    """Return a finding that prevents the use of a skill."""
    return SkillFinding(file=file, line=line, level="unusable", message=message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """A skill that the planner can choose.

    Attributes:
        description: Purpose and when to use it; all that the planner sees.
        body: The guidance; None if it is read from the folder when the skill is chosen.
        folder: None for a skill made by a program.
        file: Name of its SKILL.md.
        place: Where it was found: `built-in`, `user`, `home`, `project`, `path`, or `program`.
        code: Whether it has a `graph.py`; `trusted`: whether that may run.
        seen: SHA-256 of the `graph.py` that the user trusted; None if any that is there may run.
        conflicts: Names of skills that it cannot be combined with.
        stamp: Changes when its files change.
        findings: Problems that do not prevent its use.
    """

    name: str
    description: str
    body: str | None = None
    folder: Path | None = None
    file: str = "SKILL.md"
    place: str = "program"
    code: bool = False
    trusted: bool = False
    seen: str | None = None
    conflicts: frozenset[str] = frozenset()
    stamp: tuple[int, ...] = ()
    findings: tuple[SkillFinding, ...] = ()

    @property
    def is_built_in(self) -> bool:
        """Whether it comes with GEMS, so that nobody else wrote its guidance."""
        return self.place == BUILT_IN

    @property
    def runs_code(self) -> bool:
        """Whether it has a graph of its own that may run."""
        return self.code and self.trusted


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultySkill:
    """A folder that cannot be used as a skill, found in `place` as in `Skill.place`."""

    folder: Path
    place: str
    findings: tuple[SkillFinding, ...]

    def __str__(self) -> str:
        faults = [str(finding) for finding in self.findings if finding.level == "unusable"]
        return f"The skill in {self.folder} is ignored: {' '.join(faults)}"


ScannedSkill = Skill | FaultySkill


def normalise_name(text: str) -> str:
    """Return `text` as a skill name: lower-case letters, digits and single hyphens; may be empty."""
    return re.sub(r"[\W_]+", "-", unicodedata.normalize("NFKC", text).lower()).strip("-")


class SkillRegistry:
    """Immutable registry of skills by name; a later skill replaces an earlier one of the same name.

    `left_out` lists found skills that cannot be chosen.
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
