"""What a chat model can be asked, and the form of its answers.

The nodes ask in this form and the built-in world answers in it, so it stands below both. A request is a
system message whose first line is `Task: <task>`, then a user message of tagged parts and images. The tags
of each task are listed in `TASK_TAGS`. What a user, a skill or a model wrote goes inside a tag as data.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from gems.types import AnswerValue, RequirementKind, Role

Task = Literal[
    "route",
    "enhance",
    "keep",
    "consult",
    "prepare",
    "decompose",
    "verify",
    "checklist",
    "summarise",
    "refine",
    "reflect",
    "distil",
    "author",
]

TASK_ROLES: dict[Task, Role] = {
    "route": "planner",
    "enhance": "planner",
    "keep": "planner",
    "consult": "planner",
    "prepare": "planner",
    "decompose": "planner",
    "verify": "judge",
    "checklist": "judge",
    "summarise": "reflector",
    "refine": "reflector",
    "reflect": "reflector",
    "distil": "reflector",
    "author": "reflector",
}

_ROUND_TAGS = ("user_prompt", "drawn_prompt", "passed", "failed", "thought", "experiences", "lessons")
TASK_TAGS: dict[Task, tuple[str, ...]] = {
    "route": ("user_prompt", "skills"),
    "enhance": ("user_prompt", "skill"),
    "keep": ("user_prompt", "new_prompt", "questions"),
    "consult": ("user_prompt", "material"),
    "prepare": ("user_prompt", "lessons"),
    "decompose": ("user_prompt",),
    "verify": ("question",),
    "checklist": ("questions",),
    "summarise": _ROUND_TAGS,
    "refine": (*_ROUND_TAGS, "experience"),
    "reflect": _ROUND_TAGS,
    "distil": ("experiences",),
    "author": ("skill", "lessons"),
}
"""`questions`, `passed` and `failed` hold one numbered line each: `1. question`, failed ones with
` - evidence` behind; `skills` holds `name: description` lines; `experiences` holds `Round N: text`
lines, for `distil` numbered ones; `skill` holds a skill's body; `lessons` holds numbered lines that begin
with what came of them before, `[held 5 of 6 times]` or `[not tried yet]`."""

_TAGS = sorted({tag for tags in TASK_TAGS.values() for tag in tags})
# A model may heed a tag in capital letters, with blanks in it or with an attribute as well.
# Each pattern here and below is written so that no text takes it longer than its length.
_NAMED = rf"(?=\s*(?:/\s*)?(?:{'|'.join(_TAGS)})(?:[\s/][^<>]*)?>)"
_ANY_TAG = re.compile(f"<{_NAMED}", re.IGNORECASE)
_HIDDEN_TAG = re.compile(f"&lt;{_NAMED}", re.IGNORECASE)
_ANSWERS: dict[str, AnswerValue] = {
    "yes": "yes",
    "y": "yes",
    "true": "yes",
    "no": "no",
    "n": "no",
    "false": "no",
}
_NO_SKILL = ("", "none", "null", "no skill")
_Form = TypeVar("_Form", bound=BaseModel)


# What models write is met half way by the validators below. The JSON schema that servers are sent knows
# nothing of them: it asks for the exact form.


def _text(value: Any) -> Any:
    return "" if value is None else str(value) if isinstance(value, bool | int | float) else value


def _number(value: Any) -> Any:
    found = re.search(r"\d+", value) if isinstance(value, str) else None
    return int(found.group()) if found else value


def _answer(value: Any) -> AnswerValue:
    # The whole word, not the first: a model that copies the form answers "yes, no or unknown".
    return _ANSWERS.get(str(value).strip(" \t\r\n.,:;!*_`\"'").lower(), "unknown")


def _kind(value: Any) -> str:
    kind = str(value).strip().lower()
    return kind if kind in get_args(RequirementKind) else "other"


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _names(value: Any) -> list[str]:
    parts = value.split(",") if isinstance(value, str) else _as_list(value)
    names = [part.strip() for part in parts if isinstance(part, str)]
    return [name for name in names if name.lower() not in _NO_SKILL]


def _positions(value: Any) -> list[int]:
    numbers = [_number(item) for item in _as_list(value)]
    return [number for number in numbers if isinstance(number, int) and not isinstance(number, bool)]


def _usable(value: Any, form: type[_Form]) -> list[_Form | None]:
    """The items of a list in their places, None for one that has not the form.

    Raises:
        ValueError: there are items, and none has it.
    """
    items = [_item(item, form) for item in _as_list(value)]
    if value is None or (items and not any(items)):
        raise ValueError("nothing in the list can be used")
    return items


def _item(value: Any, form: type[_Form]) -> _Form | None:
    try:
        return form.model_validate(value)
    except ValidationError:
        return None


class SkillChoice(BaseModel):
    """Answer to `route`."""

    model_config = ConfigDict(extra="ignore")
    skills: Annotated[list[str], BeforeValidator(_names)] = Field(
        default_factory=list, description="Names of skills; empty for none."
    )
    why: Annotated[str, BeforeValidator(_text)] = Field(default="", description="One sentence.")

    @classmethod
    def from_plain(cls, text: str) -> SkillChoice | None:
        """Read a bare name such as `Spatial.` or `SKILL_ID: spatial`; None where it is anything longer."""
        name = re.sub(r"(?i)^\W*SKILL_ID\b", "", text).strip(" \t:`*\"'.\r\n")
        if not name or len(name) > 64 or "\n" in name or name.startswith(("{", "[")):
            return None
        return cls(skills=[] if name.lower() in _NO_SKILL else [name])


class PromptReply(BaseModel):
    """Answer to `enhance`, `prepare` and `refine`."""

    model_config = ConfigDict(extra="ignore")
    prompt: str


def _loss(value: Any) -> str:
    return "contradicted" if str(value).strip().lower().startswith("contra") else "dropped"


class LossReply(BaseModel):
    """A requirement that a new prompt no longer asks for."""

    model_config = ConfigDict(extra="ignore")
    number: Annotated[int, BeforeValidator(_number)] = Field(description="The question's number, from 1.")
    how: Annotated[Literal["dropped", "contradicted"], BeforeValidator(_loss)] = "dropped"


def _losses(value: Any) -> list[LossReply]:
    stated = [{"number": item} if isinstance(item, int | str) else item for item in _as_list(value)]
    return [loss for item in stated if (loss := _item(item, LossReply)) is not None]


class KeptReply(BaseModel):
    """Answer to `keep`."""

    model_config = ConfigDict(extra="ignore")
    lost: Annotated[list[LossReply], BeforeValidator(_losses)] = Field(
        default_factory=list, description="Empty where nothing is lost."
    )
    prompt: Annotated[str, BeforeValidator(_text)] = Field(
        default="", description="The new prompt with what was lost put back; empty where nothing is lost."
    )


class DraftReply(BaseModel):
    """Answer to `author`."""

    model_config = ConfigDict(extra="ignore")
    name: Annotated[str, BeforeValidator(_text)] = Field(default="", description="Lower case, with hyphens.")
    description: str = Field(description="What the skill is for and when to use it.")
    body: str = Field(description="The guidance, as Markdown.")


class RequirementReply(BaseModel):
    """One requirement as the decomposer states it."""

    model_config = ConfigDict(extra="ignore")
    question: str = Field(description="A question about the image that yes answers well.")
    kind: Annotated[RequirementKind, BeforeValidator(_kind)] = "other"
    parents: Annotated[list[int], BeforeValidator(_positions)] = Field(
        default_factory=list,
        description="Positions, from 1, of earlier questions without which this one makes no sense.",
    )


def _requirements(value: Any) -> list[RequirementReply]:
    """The usable ones; an empty question keeps the place of another, since parents are positions."""
    stated = [{"question": item} if isinstance(item, str) else item for item in _as_list(value)]
    usable = _usable(None if value is None else stated, RequirementReply)
    return [item or RequirementReply(question="") for item in usable]


class RequirementsReply(BaseModel):
    """Answer to `decompose`."""

    model_config = ConfigDict(extra="ignore")
    requirements: Annotated[list[RequirementReply], BeforeValidator(_requirements)]


class AnswerReply(BaseModel):
    """Answer to one question of a checklist."""

    model_config = ConfigDict(extra="ignore")
    number: Annotated[int, BeforeValidator(_number)] = Field(description="The question's number, from 1.")
    answer: Annotated[AnswerValue, BeforeValidator(_answer)]
    evidence: Annotated[str, BeforeValidator(_text)] = Field(
        default="", description="One line that says what is seen."
    )


def _answers(value: Any) -> list[AnswerReply]:
    return [item for item in _usable(value, AnswerReply) if item is not None]


class ChecklistReply(BaseModel):
    """Answer to `checklist`."""

    model_config = ConfigDict(extra="ignore")
    answers: Annotated[list[AnswerReply], BeforeValidator(_answers)]


class ExperienceReply(BaseModel):
    """Answer to `summarise` and `distil`."""

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
