"""Data of skills and findings about them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Level = Literal["unusable", "nonstandard", "advice"]
_NOT_A_NAME = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A problem in a skill's files.

    Attributes:
        file: Path relative to the skill's folder.
        line: From 1; 0 for the whole file.
        level: `unusable` prevents its use; `nonstandard` violates the Agent Skills standard with a clear
            meaning; `advice` is no violation.
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
    """A skill that the planner can choose.

    Attributes:
        name: Lower-case letters, digits and single hyphens.
        description: Purpose and when to use it; all that the planner sees.
        body: The guidance; None if it is read from the folder when the skill is chosen.
        folder: Its folder; None for a skill made by a program.
        file: The name of its SKILL.md.
        place: Where it was found: `built-in`, `user`, `home`, `project`, `path`, or `program`.
        code: Whether it has a `graph.py`.
        trusted: Whether its code may run.
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
    conflicts: frozenset[str] = frozenset()
    stamp: tuple[int, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def runs_code(self) -> bool:
        """Whether it has a graph of its own that may run."""
        return self.code and self.trusted


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultySkill:
    """A folder that cannot be used as a skill.

    Attributes:
        folder: Its path.
        place: See `Skill.place`.
        findings: The reasons and other findings.
    """

    folder: Path
    place: str
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        faults = [str(finding) for finding in self.findings if finding.level == "unusable"]
        return f"The skill in {self.folder} is ignored: {' '.join(faults)}"


ScannedSkill = Skill | FaultySkill


def normalise_name(text: str) -> str:
    """Return `text` as a skill name: lower-case letters, digits and single hyphens; may be empty."""
    return _NOT_A_NAME.sub("-", unicodedata.normalize("NFKC", text).lower()).strip("-")
