"""What a chat model can be asked, and the form of its answers.

The nodes ask in this form and the built-in world answers in it, so it stands below both. A request is a
system message whose first line is `Task: <task>`, then a user message of tagged parts and images. The tags
of each task are listed in `TASK_TAGS`. What a user, a skill or a model wrote goes inside a tag as data.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gems.types import AnswerValue, RequirementKind, Role

Task = Literal["route", "enhance", "decompose", "verify", "checklist", "summarise", "refine", "reflect"]

TASK_ROLES: dict[Task, Role] = {
    "route": "planner",
    "enhance": "planner",
    "decompose": "planner",
    "verify": "judge",
    "checklist": "judge",
    "summarise": "reflector",
    "refine": "reflector",
    "reflect": "reflector",
}

_ROUND_TAGS = ("user_prompt", "drawn_prompt", "passed", "failed", "thought", "experiences", "lessons")
TASK_TAGS: dict[Task, tuple[str, ...]] = {
    "route": ("user_prompt", "skills"),
    "enhance": ("user_prompt", "skill"),
    "decompose": ("user_prompt",),
    "verify": ("question",),
    "checklist": ("questions",),
    "summarise": _ROUND_TAGS,
    "refine": (*_ROUND_TAGS, "experience"),
    "reflect": _ROUND_TAGS,
}
"""`questions`, `passed` and `failed` hold one numbered line each: `1. question`, failed ones with
` - evidence` behind; `skills` holds `name: description` lines; `experiences` holds `Round N: text` lines."""

_TAGS = sorted({tag for tags in TASK_TAGS.values() for tag in tags})
_NAMED = rf"(?=/?(?:{'|'.join(_TAGS)})\s*>)"
# A model may heed a tag in capital letters as well.
_ANY_TAG = re.compile(f"<{_NAMED}", re.IGNORECASE)
_HIDDEN_TAG = re.compile(f"&lt;{_NAMED}", re.IGNORECASE)


class SkillChoice(BaseModel):
    """Answer to `route`."""

    model_config = ConfigDict(extra="ignore")
    skills: list[str] = Field(default_factory=list, description="Names of skills; empty for none.")
    why: str = Field(default="", description="One sentence.")

    @classmethod
    def from_plain(cls, text: str) -> SkillChoice | None:
        """Read a bare name such as `Spatial.` or `SKILL_ID: spatial`; None where it is anything longer."""
        name = text.strip().removeprefix("SKILL_ID").strip(" :`*\"'.\n")
        if not name or len(name) > 64 or "\n" in name or name.startswith(("{", "[")):
            return None
        return cls(skills=[] if name.lower() in ("none", "null", "no skill") else [name])


class PromptReply(BaseModel):
    """Answer to `enhance` and `refine`."""

    model_config = ConfigDict(extra="ignore")
    prompt: str


class RequirementReply(BaseModel):
    """One requirement as the decomposer states it."""

    model_config = ConfigDict(extra="ignore")
    question: str = Field(description="A question about the image that yes answers well.")
    kind: RequirementKind = "other"
    parents: list[int] = Field(
        default_factory=list,
        description="Positions, from 1, of earlier questions without which this one makes no sense.",
    )


class RequirementsReply(BaseModel):
    """Answer to `decompose`."""

    model_config = ConfigDict(extra="ignore")
    requirements: list[RequirementReply]


class AnswerReply(BaseModel):
    """Answer to one question of a checklist."""

    model_config = ConfigDict(extra="ignore")
    number: int = Field(description="The question's number, from 1.")
    answer: AnswerValue
    evidence: str = Field(default="", description="One line that says what is seen.")


class ChecklistReply(BaseModel):
    """Answer to `checklist`."""

    model_config = ConfigDict(extra="ignore")
    answers: list[AnswerReply]


class ExperienceReply(BaseModel):
    """Answer to `summarise`."""

    model_config = ConfigDict(extra="ignore")
    experience: str = Field(description="At most 100 words.")


class ReflectionReply(BaseModel):
    """Answer to `reflect`: the experience and the next prompt in one."""

    model_config = ConfigDict(extra="ignore")
    experience: str = Field(description="At most 100 words.")
    prompt: str = Field(description="The whole next prompt.")


def tagged(tag: str, text: str) -> str:
    """Put text inside a tag as data: none of our tags inside it can open or close anything.

    Only the bracket of one of our own tags is replaced, so that all other text stays as it was typed.
    """
    return f"<{tag}>\n{_ANY_TAG.sub('&lt;', text)}\n</{tag}>"


def untagged(tag: str, content: str) -> str | None:
    """The text inside the first `tag` of `content`; None where there is no such tag."""
    found = re.search(rf"<{tag}>\n(.*?)\n</{tag}>", content, re.DOTALL)
    return _HIDDEN_TAG.sub("<", found.group(1)) if found else None
