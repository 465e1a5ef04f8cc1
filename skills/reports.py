"""JSON forms of skills."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gems.skills.discovery import SkillSearchPath
from gems.skills.models import Finding, Level, Skill, SkillRegistry
from gems.skills.validator import Validation
from gems.types import Usage


class SkillFinding(BaseModel):
    """Something about a skill's files that its author should know."""

    model_config = ConfigDict(frozen=True)

    file: str = Field(description="Path relative to the skill's folder.")
    line: int = Field(description="From 1; 0 for the file as a whole.")
    level: Level = Field(description="unusable, nonstandard, or advice.")
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{self.level}: {place}: {self.message}"


class SkillEntry(BaseModel):
    """A skill that can be chosen."""

    model_config = ConfigDict(frozen=True)

    name: str
    description: str
    place: str = Field(description="built-in, user, home, project or path.")
    folder: str
    code: bool = Field(description="Whether it brings a graph.py.")
    runs_code: bool = Field(description="Whether that may run, since the place is trusted.")
    conflicts: list[str] = Field(description="Skills that it does not work together with.")
    findings: list[SkillFinding]


class LeftOut(BaseModel):
    """A folder that gives no skill."""

    model_config = ConfigDict(frozen=True)

    folder: str
    place: str
    findings: list[SkillFinding]


class SkillList(BaseModel):
    """The skills of all places."""

    model_config = ConfigDict(frozen=True)

    skills: list[SkillEntry]
    left_out: list[LeftOut]
    untrusted: list[str] = Field(
        description="Folders of skills in the current project, which are not read before it is trusted."
    )


class SkillPage(BaseModel):
    """Everything about one skill."""

    model_config = ConfigDict(frozen=True)

    skill: SkillEntry
    body: str = Field(description="The guidance that a chat model is shown once the skill is chosen.")
    files: list[str] = Field(description="Paths relative to the folder.")


class Validated(BaseModel):
    """What was found in a skill's folder."""

    model_config = ConfigDict(frozen=True)

    folder: str
    name: str | None = Field(description="None where it cannot be used.")
    valid: bool = Field(description="Whether it keeps to the Agent Skills standard and can be used.")
    findings: list[SkillFinding]


class ValidationList(BaseModel):
    """What was found in the folders."""

    model_config = ConfigDict(frozen=True)

    skills: list[Validated]


class TrustedFolders(BaseModel):
    """The folders that are trusted."""

    model_config = ConfigDict(frozen=True)

    folders: list[str]


class NewSkill(BaseModel):
    """A skill's folder that was written."""

    model_config = ConfigDict(frozen=True)

    folder: str
    files: list[str]


def list_skills(registry: SkillRegistry, where: SkillSearchPath) -> SkillList:
    """Return the skills of a registry in JSON form. Blocking."""
    return SkillList(
        skills=[skill_entry(skill) for skill in registry.all()],
        left_out=[
            LeftOut(folder=str(item.folder), place=item.place, findings=_findings(item.findings))
            for item in registry.left_out
        ],
        untrusted=[str(folder) for folder in where.untrusted()],
    )


def skill_entry(skill: Skill) -> SkillEntry:
    """Return a skill in JSON form."""
    return SkillEntry(
        name=skill.name,
        description=skill.description,
        place=skill.place,
        folder=str(skill.folder or ""),
        code=skill.code,
        runs_code=skill.runs_code,
        conflicts=sorted(skill.conflicts),
        findings=_findings(skill.findings),
    )


def validation_entry(found: Validation) -> Validated:
    """Return the result of a validation in JSON form."""
    return Validated(
        folder=str(found.folder),
        name=found.skill.name if found.skill else None,
        valid=found.is_valid,
        findings=_findings(found.findings),
    )


def _findings(found: tuple[Finding, ...]) -> list[SkillFinding]:
    return [SkillFinding(file=f.file, line=f.line, level=f.level, message=f.message) for f in found]


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True)


class TriedExample(_Report):
    """Outcome of one line of a skill's `examples.jsonl`."""

    line: int = Field(description="From 1.")
    prompt: str
    trigger: bool = Field(description="Whether the skill should be chosen.")
    chosen: bool | None = Field(
        description="Whether it was chosen; null without a usable answer of the planner."
    )
    skills: list[str] = Field(description="All chosen skills.")
    new_prompt: str | None = Field(description="The skill's prompt; null if it wrote none.")
    kept: list[str] = Field(description="Statements that the new prompt keeps.")
    lost: list[str] = Field(description="Statements that it loses.")
    unanswered: list[str] = Field(description="Errors of models without a usable answer.")
    fault: str = Field(description="Why the skill failed; empty if it succeeded.")
    passed: bool = Field(description="Whether the outcome is as the line says.")


class SkillTrial(_Report):
    """Outcome of a skill's own examples."""

    skill: str
    passed: bool = Field(description="Whether every example passed.")
    precision: float | None = Field(
        description="Share of the examples with the skill chosen that call for it, in [0, 1]; null if it was "
        "never chosen."
    )
    recall: float | None = Field(
        description="Share of the examples that call for the skill with it chosen, in [0, 1]; null if there "
        "are none."
    )
    kept: int = Field(description="Statements that its prompts keep.")
    checked: int = Field(description="Number of checked statements.")
    unanswered: int = Field(description="Examples for which a model gave no usable answer.")
    calls: int = Field(description="Calls of chat models.")
    seconds: float
    usage: dict[str, Usage] = Field(description="By role.")
    examples: list[TriedExample]


class SkillDraft(_Report):
    """A proposed skill, or an amendment of one."""

    name: str
    amends: bool = Field(description="Whether it is an amendment of the skill of this name.")
    generator: str = Field(description="The image model whose lessons were used.")
    kinds: list[str] = Field(description="Kinds of requirements of the lessons.")
    lessons: int = Field(description="Number of lessons and experiences that were used.")
    by: Literal["model", "list"] | None = Field(
        description="Written by the chat model, or a list of lessons; null if nothing was written."
    )
    state: Literal["written", "exists", "planned"] = Field(
        description="`exists`: an existing draft was kept; `planned`: dry run."
    )
    folder: str = Field(description="The folder of the draft.")
    examples: int = Field(description="Number of prompts of earlier runs used as examples.")
    warnings: list[str]


class SkillDrafts(_Report):
    """Proposals from lessons."""

    lessons: int = Field(description="Number of lessons, and of experiences without a lesson.")
    refuted: int = Field(description="Number of refuted ones, which were left out.")
    drafts: list[SkillDraft]
    left_out: list[str] = Field(description="Groups with enough lessons that are not proposed, and why.")
