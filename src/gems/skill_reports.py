"""Results of `Gems.skills`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gems.types import Usage


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
