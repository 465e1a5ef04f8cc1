"""What a skill is, and what can be wrong with one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Level = Literal["unusable", "nonstandard", "advice"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about a skill's files that its author should know.

    Attributes:
        file: Path relative to the skill's folder.
        line: From 1; 0 for the file as a whole.
        level: `unusable` keeps the skill from being used; `nonstandard` breaks the Agent Skills standard, but
            its meaning is clear; `advice` breaks nothing.
        message: One sentence.
    """

    file: str
    line: int
    level: Level
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """Expertise that the planner can choose.

    Attributes:
        name: Lower-case letters, digits and single hyphens.
        description: What it is for and when to use it; all that the planner sees.
        body: The guidance; None where it is read from the folder once the skill is chosen.
        folder: Where its files are; None for a skill that a program made.
        file: The name of its SKILL.md.
        place: Where it was found: `built-in`, `user`, `home`, `project`, `path`, or `program`.
        code: Whether it has a `graph.py`.
        trusted: Whether that may run.
        conflicts: Names of skills that it does not work together with.
        stamp: Differs where its files differ.
        findings: What is not as it should be, though it can be used.
    """

    name: str
    description: str
    body: str | None = None
    folder: Path | None = None
    file: str = "SKILL.md"
    place: str = "program"
    code: bool = False
    trusted: bool = False
    conflicts: frozenset[str] = frozenset()
    stamp: tuple[int, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def runs_code(self) -> bool:
        """Whether it brings a graph of its own that may run."""
        return self.code and self.trusted


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultySkill:
    """A folder that cannot be used as a skill.

    Attributes:
        folder: Its path.
        place: See `Skill.place`.
        findings: Why, and whatever else was found.
    """

    folder: Path
    place: str
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        faults = [str(finding) for finding in self.findings if finding.level == "unusable"]
        return f"The skill in {self.folder} is left out: {' '.join(faults)}"
