"""JSON forms of skills."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gems.skills.discovery import SkillSearchPath
from gems.skills.models import SkillFinding, SkillRegistry
from gems.types import Usage


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


def _format_folder(folder: Path | str | None) -> str:
    return str(folder or "")


_Folder = Annotated[str, BeforeValidator(_format_folder)]


class SkillEntry(_Report):
    """A skill that can be chosen."""

    name: str
    description: str
    place: str = Field(description="built-in, user, home, project or path.")
    folder: _Folder
    code: bool = Field(description="Whether it brings a graph.py.")
    runs_code: bool = Field(description="Whether that may run, since the place is trusted.")
    conflicts: Annotated[list[str], BeforeValidator(sorted)] = Field(
        description="Skills that it does not work together with."
    )
    findings: list[SkillFinding]


class LeftOut(_Report):
    """A folder that gives no skill."""

    folder: _Folder
    place: str
    findings: list[SkillFinding]


class SkillList(_Report):
    """The skills of all places."""

    skills: list[SkillEntry]
    left_out: list[LeftOut]
    untrusted: list[str] = Field(
        description="Folders of skills in the current project, which are not read before it is trusted."
    )


class SkillPage(_Report):
    """Everything about one skill."""

    skill: SkillEntry
    body: str = Field(description="The guidance that a chat model is shown once the skill is chosen.")
    files: list[str] = Field(description="Paths relative to the folder.")


class Validated(_Report):
    """What was found in a skill's folder."""

    folder: str
    name: str | None = Field(description="None where it cannot be used.")
    valid: bool = Field(description="Whether it keeps to the Agent Skills standard and can be used.")
    references: list[str] = Field(
        default_factory=list, description="Files that are sent to the chat model with the guidance."
    )
    findings: list[SkillFinding]


class ValidationList(_Report):
    """What was found in the folders."""

    skills: list[Validated]


class TrustedFolders(_Report):
    """The folders that are trusted."""

    folders: list[str]


class NewSkill(_Report):
    """A skill's folder that was written."""

    folder: str
    files: list[str]


def list_skills(registry: SkillRegistry, where: SkillSearchPath) -> SkillList:
    """Return the skills of a registry in JSON form. Blocking."""
    return SkillList(
        skills=[SkillEntry.model_validate(skill) for skill in registry.all()],
        left_out=[LeftOut.model_validate(item) for item in registry.left_out],
        untrusted=[str(folder) for folder in where.untrusted()],
    )


class TriedExample(_Report):
    """Outcome of one line of a skill's `examples.jsonl`."""

    line: int = Field(description="From 1.")
    prompt: str
    trigger: bool = Field(description="Whether the skill should be chosen.")
    chosen: bool | None = Field(description="Whether it was chosen; null without a usable answer of the planner.")
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
        description="Share of the examples that call for the skill with it chosen, in [0, 1]; null if there are none."
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
