"""Results of `Gems.skills`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gems.types import Usage


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True)


class TriedExample(_Report):
    """What became of one line of a skill's `examples.jsonl`."""

    line: int = Field(description="From 1.")
    prompt: str
    trigger: bool = Field(description="Whether the skill is to be chosen.")
    chosen: bool | None = Field(description="Whether it was; null where the planner did not answer usably.")
    skills: list[str] = Field(description="All that were chosen.")
    new_prompt: str | None = Field(description="What the skill made of the prompt; null where it did not.")
    kept: list[str] = Field(description="Statements that the new prompt keeps.")
    lost: list[str] = Field(description="Statements that it does not.")
    unanswered: list[str] = Field(description="Why a model gave no usable answer, once per failure.")
    fault: str = Field(description="Why the skill could not do its part; empty where it did.")
    passed: bool = Field(description="Whether everything came out as the line says.")


class SkillTrial(_Report):
    """How a skill does on its own examples."""

    skill: str
    passed: bool = Field(description="Whether every example came out as it says.")
    precision: float | None = Field(
        description="Share of the examples for which it was chosen that call for it, in [0, 1]; null where "
        "it was never chosen."
    )
    recall: float | None = Field(
        description="Share of the examples that call for it for which it was chosen, in [0, 1]; null where "
        "none does."
    )
    kept: int = Field(description="Statements that its prompts keep.")
    checked: int = Field(description="Statements that were looked for.")
    unanswered: int = Field(description="Examples for which a model gave no usable answer.")
    calls: int = Field(description="Of chat models.")
    seconds: float
    usage: dict[str, Usage] = Field(description="By role.")
    examples: list[TriedExample]


class SkillDraft(_Report):
    """A skill, or an amendment of one, that is proposed."""

    name: str
    amends: bool = Field(description="Whether it is an amendment of the skill of this name.")
    generator: str = Field(description="Whose lessons it rests on.")
    kinds: list[str] = Field(description="Kinds of requirements that they are about.")
    lessons: int = Field(description="Lessons and experiences that it rests on.")
    by: Literal["model", "list"] | None = Field(
        description="Who wrote it: the chat model, or it is the plain list; null where nothing was written."
    )
    state: Literal["written", "exists", "planned"] = Field(
        description="`exists` where a draft is there already and stays; `planned` where it was only looked."
    )
    folder: str = Field(description="Where the draft is, or would be.")
    examples: int = Field(description="Prompts of earlier runs that it was given as examples.")
    warnings: list[str]


class SkillDrafts(_Report):
    """What is proposed from what runs have learnt."""

    lessons: int = Field(description="Lessons, and experiences without one, that were looked at.")
    refuted: int = Field(description="Those that did not hold and were left out.")
    drafts: list[SkillDraft]
    left_out: list[str] = Field(description="What has enough lessons and is not proposed, and why.")
