"""Tasks of the chat model and the schemas of its replies.

A request is a system message and a user message of images and tagged parts (see `TASK_TAGS`). The line `Task: <task>`
begins the system message or, for the judge, the text after the images. Text from users, skills and models goes inside
tags, as data.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.json_schema import SkipJsonSchema

from gems.models.chat.answers import read_verdict
from gems.types import AnswerValue, RequirementKind, Role

_PlannerTask = Literal["route", "enhance", "keep", "consult", "prepare", "decompose", "complete", "follow"]
_JudgeTask = Literal["verify", "checklist", "settle"]
_ReflectorTask = Literal["summarise", "refine", "reflect", "mend", "distil", "amend", "author"]
Task = Literal[_PlannerTask, _JudgeTask, _ReflectorTask]

_ROLES: dict[Role, Any] = {"planner": _PlannerTask, "judge": _JudgeTask, "reflector": _ReflectorTask}
TASK_ROLES: dict[Task, Role] = {task: role for role, tasks in _ROLES.items() for task in get_args(tasks)}

OUT_OF_REACH = "Out of reach: "
"""Beginning of the evidence of an unknown answer that no other image can change, since the models in use can
neither generate nor check what is asked."""

_ROUND_TAGS = ("user_prompt", "drawn_prompt", "passed", "failed", "thought", "experiences", "lessons")
TASK_TAGS: dict[Task, tuple[str, ...]] = {
    "route": ("user_prompt", "skills"),
    "enhance": ("user_prompt", "skill"),
    "keep": ("user_prompt", "new_prompt", "questions"),
    "consult": ("user_prompt", "material"),
    "prepare": ("user_prompt", "lessons"),
    "decompose": ("user_prompt",),
    "complete": ("user_prompt", "questions"),
    "follow": ("conversation", "user_prompt"),
    "verify": ("question",),
    "checklist": ("questions",),
    "settle": ("questions", "findings"),
    "summarise": _ROUND_TAGS,
    "refine": (*_ROUND_TAGS, "experience"),
    "reflect": _ROUND_TAGS,
    "mend": (*_ROUND_TAGS, "fault"),
    "distil": ("experiences",),
    "amend": ("failures", "lessons", "counts", "texts"),
    "author": ("skill", "lessons"),
}
"""Contents of the tags: `questions`, `passed` and `failed` are numbered lines `1. question`, failed ones
followed by ` - evidence`; `findings` are numbered as the questions; `skills` are `name: description` lines;
`experiences` are `Round N: text` lines, numbered ones for `distil`; `skill` is a skill's body; `lessons` are
numbered lines that begin with their record, `[held 5 of 6 times]` or `[not tried yet]`; `failures` and `counts` are
numbered lines; `texts` are what may be changed, each below a line `## kind target`; `conversation` are lines
`Person: text`, whose pictures are numbered from 1: `Program (picture 1):`."""

MAX_REQUIREMENTS = 60
"""Most requirements of a run."""
MAX_QUESTIONS = 15
"""Most questions in one checklist."""
MOST_AMENDMENTS = 5
"""Most changes in one answer."""
_BOX_EDGES = 4
_THOUSAND = 1000
_TAGS = sorted({tag for tags in TASK_TAGS.values() for tag in tags})
# Models also accept tags in capitals, with blanks or attributes. All patterns here run in linear time.
_NAMED = rf"(?=\s*(?:/\s*)?(?:{'|'.join(_TAGS)})(?:[\s/][^<>]*)?>)"
_ANY_TAG = re.compile(f"<{_NAMED}", re.IGNORECASE)
_HIDDEN_TAG = re.compile(f"&lt;{_NAMED}", re.IGNORECASE)
_TASK_LINE = re.compile(r"\s*Task:\s*(\S+)")
QUESTION_MARKS = ("?", "\uff1f", "\u061f")
_PLACEHOLDERS = frozenset(
    f"{article}{words}".strip()
    for article in ("", "the ", "your ")
    for words in (
        *(
            "whole new prompt",
            "whole next prompt",
            "whole prompt",
            "whole corrected prompt",
            "new prompt",
            "next prompt",
        ),
        *(
            "prompt",
            "string",
            "text",
            "prompt here",
            "text here",
            "question",
            "question here",
            "question inside the tags",
        ),
        *("prompt inside the tags", "user's prompt"),
    )
)
"""Texts that models copy from instructions, or write in the place of what they were to say."""
_NUMBER = re.compile(r"[^\d-]*(\d{1,9})(?:\.0+)?\D*")
"""A text with one number: `Q1`, `1.`; of two it cannot be told which is meant."""
_NO_SKILL = ("", "none", "null", "no skill")
_Form = TypeVar("_Form", bound=BaseModel)


# The validators below accept near misses. The JSON schema sent to servers still asks for the exact form.


def _coerce_text(value: Any) -> Any:
    return "" if value is None else str(value) if isinstance(value, bool | int | float) else value


def read_number(value: Any) -> Any:
    """Return the number in a text that holds one; other values as they are, and None for a boolean."""
    if isinstance(value, bool):
        return None
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    return int(match[1]) if match else value


def _coerce_kind(value: Any) -> str:
    kind = str(value).strip().lower()
    return kind if kind in get_args(RequirementKind) else "other"


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _coerce_names(value: Any) -> list[str]:
    if isinstance(value, dict) and "name" not in value:
        value = list(value)
    parts = value.split(",") if isinstance(value, str) else _as_list(value)
    named = [part.get("name") if isinstance(part, dict) else part for part in parts]
    # Models copy whole lines `name: description`.
    names = [part.partition(":")[0].strip() for part in named if isinstance(part, str)]
    return [name for name in names if name.lower() not in _NO_SKILL]


def _coerce_positions(value: Any) -> list[int]:
    numbers = [read_number(item) for item in _as_list(value)]
    return [number for number in numbers if isinstance(number, int) and not isinstance(number, bool)]


def _parse_items(value: Any, form: type[_Form]) -> list[_Form | None]:
    """Parse the items of a list, invalid ones to None; raise `ValueError` if all are invalid."""
    items = [_parse_item(item, form) for item in _as_list(value)]
    if value is None or (items and not any(items)):
        raise ValueError("the list has no valid item")
    return items


def _parse_item(value: Any, form: type[_Form]) -> _Form | None:
    try:
        return form.model_validate(value)
    except ValidationError:
        return None


def _reject_placeholder(value: str) -> str:
    """Raise ValueError for what stands in the examples of instructions instead of a text."""
    bare = value.strip().strip("\"'`<>[]{}()").strip()
    if value.strip() and (not bare.strip(".\u2026") or bare.casefold().rstrip(".") in _PLACEHOLDERS):
        raise ValueError(f"{value.strip()!r} is a placeholder")
    return value


_Text = Annotated[str, AfterValidator(_reject_placeholder)]


def _longest(characters: int) -> dict[str, Any]:
    """Return what the schema says of a text's length; a longer one is read all the same."""
    return {"maxLength": characters}


def _most(items: int) -> dict[str, Any]:
    return {"maxItems": items}


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore")


class SkillChoice(_Reply):
    """Answer to `route`."""

    why: Annotated[str, BeforeValidator(_coerce_text)] = Field(
        default="", description="One sentence.", json_schema_extra=_longest(300)
    )
    skills: Annotated[list[str], BeforeValidator(_coerce_names)] = Field(
        description="Names of skills; empty for none.", json_schema_extra=_most(3)
    )

    @classmethod
    def from_plain(cls, text: str) -> SkillChoice | None:
        """Parse a bare name such as `Spatial.` or `SKILL_ID: spatial`; None for anything longer."""
        name = re.sub(r"(?i)^\W*SKILL_ID\b", "", text).strip(" \t:`*\"'.\r\n")
        if not name or len(name) > 64 or "\n" in name or name.startswith(("{", "[")):
            return None
        return cls(skills=[] if name.lower() in _NO_SKILL else [name])


class PromptReply(_Reply):
    """Answer to `enhance`, `prepare` and `refine`."""

    prompt: _Text = Field(description="The whole prompt.")


def _coerce_loss(value: Any) -> str:
    return "contradicted" if str(value).strip().lower().startswith("contra") else "dropped"


class LossReply(_Reply):
    """A requirement that a new prompt no longer asks for."""

    number: Annotated[int, BeforeValidator(read_number)] = Field(description="The question's number, from 1.")
    how: Annotated[Literal["dropped", "contradicted"], BeforeValidator(_coerce_loss)] = "dropped"


def _coerce_losses(value: Any) -> list[LossReply]:
    stated = [{"number": item} if isinstance(item, int | str) else item for item in _as_list(value)]
    return [loss for item in stated if (loss := _parse_item(item, LossReply)) is not None]


class KeptReply(_Reply):
    """Answer to `keep`."""

    lost: Annotated[list[LossReply], BeforeValidator(_coerce_losses)] = Field(
        description="Empty where nothing is lost.", json_schema_extra=_most(MAX_REQUIREMENTS)
    )
    prompt: Annotated[str, BeforeValidator(_coerce_text)] = Field(
        default="", description="The new prompt with what was lost put back; empty where nothing is lost."
    )


def _coerce_follow_up(value: Any) -> Any:
    word = str(value).strip().lower()
    return next((kind for kind in ("new", "change", "again") if word.startswith(kind)), value)


def _coerce_picture(value: Any) -> int:
    number = read_number(value)
    return number if isinstance(number, int) else 0


class FollowUpReply(_Reply):
    """Answer to `follow`."""

    kind: Annotated[Literal["new", "change", "again"], BeforeValidator(_coerce_follow_up)]
    picture: Annotated[int, BeforeValidator(_coerce_picture)] = Field(
        default=0, description="The number of the picture that is meant; 0 for none."
    )
    instruction: Annotated[str, BeforeValidator(_coerce_text)] = Field(
        default="", description="What to change in the picture; empty for new and again."
    )
    prompt: Annotated[str, BeforeValidator(_coerce_text)] = Field(
        default="", description="The whole picture that is wanted now; empty for new."
    )


class DraftReply(_Reply):
    """Answer to `author`."""

    name: Annotated[str, BeforeValidator(_coerce_text)] = Field(
        default="", description="Lower case, with hyphens.", json_schema_extra=_longest(64)
    )
    description: _Text = Field(
        description="What the skill is for and when to use it.", json_schema_extra=_longest(1000)
    )
    body: _Text = Field(description="The guidance, as Markdown.")


class RequirementReply(_Reply):
    """One requirement as the decomposer states it."""

    question: _Text = Field(
        description="A yes/no question; yes if the image meets it.", json_schema_extra=_longest(400)
    )
    kind: Annotated[RequirementKind, BeforeValidator(_coerce_kind)] = "other"
    parents: Annotated[list[int], BeforeValidator(_coerce_positions)] = Field(
        default_factory=list,
        description="Positions, from 1, of earlier questions without which this one makes no sense.",
        json_schema_extra=_most(10),
    )


def _is_question(value: Any) -> bool:
    return isinstance(value, str) and value.rstrip().endswith(QUESTION_MARKS)


def _coerce_requirements(value: Any) -> list[RequirementReply]:
    """Replace invalid items by empty questions, since parents are positions in the list.

    A list of texts counts if all are questions: other lists of texts are about something else.
    """
    stated = _as_list(value)
    of_ours = any(isinstance(item, dict) and "question" in item for item in stated)
    if of_ours or all(map(_is_question, stated)):
        stated = [{"question": item} if _is_question(item) else item for item in stated]
    usable = _parse_items(None if value is None else stated, RequirementReply)
    return [item or RequirementReply(question="") for item in usable]


class RequirementsReply(_Reply):
    """Answer to `decompose`."""

    requirements: Annotated[list[RequirementReply], BeforeValidator(_coerce_requirements)] = Field(
        json_schema_extra=_most(MAX_REQUIREMENTS)
    )


_CORNERS = (("x1", "y1", "x2", "y2"), ("left", "top", "right", "bottom"), ("xmin", "ymin", "xmax", "ymax"))
_SIZED = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))
_NUMBERS = re.compile(r"-?\d+(?:\.\d+)?")


def read_box(value: Any) -> list[int]:
    """Return a box in thousandths of width and height, given in these or as shares; empty for anything that is none.

    Understood are lists of edges or corners, texts and objects with the usual names, and the corners in either order.
    What lies outside of the picture, such as pixels do, is none. Models that were trained to begin with y say so by
    the name `box_2d`.
    """
    edges = _find_edges(value)
    if len(edges) != _BOX_EDGES or not all(map(math.isfinite, edges)):
        return []
    shares = all(0 <= edge <= 1 for edge in edges)
    x1, y1, x2, y2 = (round(edge * 1000 if shares else edge) for edge in edges)
    (x1, x2), (y1, y2) = sorted((x1, x2)), sorted((y1, y2))
    return [x1, y1, x2, y2] if 0 <= x1 < x2 <= _THOUSAND and 0 <= y1 < y2 <= _THOUSAND else []


def _find_edges(value: Any) -> list[float]:
    """Return the numbers of a box in the order x1, y1, x2, y2; not four where it has no such."""
    if isinstance(value, str):
        return [float(found) for found in _NUMBERS.findall(value[:200])]
    if isinstance(value, dict):
        return _find_named_edges({str(name).lower(): edge for name, edge in value.items()})
    if not isinstance(value, list):
        return []
    if value and all(isinstance(part, list) for part in value):
        value = [edge for part in value for edge in part]
    is_number = [isinstance(edge, int | float) and not isinstance(edge, bool) for edge in value]
    return value if all(is_number) else []


def _find_named_edges(named: dict[str, Any]) -> list[float]:
    for name in ("box", "bbox", "bbox_2d"):
        if name in named:
            return [] if isinstance(named[name], dict) else _find_edges(named[name])
    if "box_2d" in named and not isinstance(named["box_2d"], dict):
        edges = _find_edges(named["box_2d"])
        return [edges[index] for index in (1, 0, 3, 2)] if len(edges) == _BOX_EDGES else []
    for names in _CORNERS:
        if all(name in named for name in names):
            return _find_edges([named[name] for name in names])
    for names in _SIZED:
        if all(name in named for name in names):
            edges = _find_edges([named[name] for name in names])
            return [*edges[:2], edges[0] + edges[2], edges[1] + edges[3]] if edges else []
    return []


class AnswerReply(_Reply):
    """Answer to one question of a checklist."""

    number: Annotated[int, BeforeValidator(read_number)] = Field(description="The question's number, from 1.")
    evidence: Annotated[str, BeforeValidator(_coerce_text)] = Field(
        default="", description="One line that says what is seen.", json_schema_extra=_longest(300)
    )
    answer: Annotated[AnswerValue, BeforeValidator(read_verdict)]
    question: Annotated[SkipJsonSchema[str], BeforeValidator(_coerce_text)] = Field(default="", exclude=True)
    """What some models repeat of the question without being asked to."""
    box: Annotated[list[int], BeforeValidator(read_box)] = Field(
        default_factory=list,
        description="Where a no has its place: x1, y1, x2, y2 in thousandths from the upper left; else empty.",
        json_schema_extra=_most(4),
    )

    @model_validator(mode="before")
    @classmethod
    def _name_box(cls, value: Any) -> Any:
        """Take a box by the names that models were trained with."""
        names = [name for name in ("bbox", "bbox_2d", "box_2d") if isinstance(value, dict) and name in value]
        return value | {"box": {names[0]: value[names[0]]}} if names and not value.get("box") else value


def _coerce_answers(value: Any) -> list[AnswerReply]:
    if isinstance(value, dict) and value and all(isinstance(read_number(str(key)), int) for key in value):
        # The numbers as keys.
        value = [
            item | {"number": key} if isinstance(item, dict) else {"number": key, "answer": item}
            for key, item in value.items()
        ]
    return [item for item in _parse_items(value, AnswerReply) if item is not None]


class ChecklistReply(_Reply):
    """Answer to `checklist` and `settle`."""

    answers: Annotated[list[AnswerReply], BeforeValidator(_coerce_answers)] = Field(
        json_schema_extra=_most(MAX_QUESTIONS)
    )


class ExperienceReply(_Reply):
    """Answer to `summarise` and `distil`."""

    experience: _Text = Field(description="At most 100 words.", json_schema_extra=_longest(1000))


def _coerce_experience(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, list) else _coerce_text(value)


class ReflectionReply(_Reply):
    """Answer to `reflect`: the experience, empty if the model gave none, and the next prompt in one."""

    experience: Annotated[str, BeforeValidator(_coerce_experience)] = Field(
        default="", description="At most 100 words.", json_schema_extra=_longest(1000)
    )
    prompt: _Text = Field(description="The whole next prompt.")


class MendingReply(ReflectionReply):
    """Answer to `mend`: what the editor is told as well."""

    instruction: _Text = Field(
        description="What to change in the picture, for an editor that sees it.", json_schema_extra=_longest(1000)
    )


_Plain = Annotated[str, BeforeValidator(_coerce_text)]


class AmendmentReply(_Reply):
    """One change that is proposed."""

    kind: Literal["skill", "wording", "recipe", "rule"]
    target: _Plain = Field(description="A skill, a task, a generator or an option, as listed.")
    name: _Plain = Field(default="", description="Of values: which one.", json_schema_extra=_longest(100))
    before: _Plain = Field(default="", description="The passage to replace; empty to add.")
    after: _Plain = Field(default="")
    reason: _Plain = Field(default="", json_schema_extra=_longest(1000))


class AmendmentsReply(_Reply):
    """Answer to `amend`."""

    amendments: list[AmendmentReply] = Field(json_schema_extra=_most(MOST_AMENDMENTS))


def find_task(contents: Iterable[Any]) -> str:
    """Return the name in the line `Task: NAME` that a text of messages' contents begins with; empty if there is none.

    Contents are texts or lists of parts, as messages of LangChain and of the OpenAI API have them.
    """
    for content in contents:
        parts = content if isinstance(content, list) else [content]
        texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
        for text in texts:
            if isinstance(text, str) and (found := _TASK_LINE.match(text)):
                return found.group(1)
    return ""


def wrap_in_tag(tag: str, text: str) -> str:
    """Wrap text in a tag as data: escape the brackets of our own tags in it, and nothing else."""
    return f"<{tag}>\n{_ANY_TAG.sub('&lt;', text)}\n</{tag}>"


def extract_tag(tag: str, content: str) -> str | None:
    """Return the text inside the first `tag` of `content`; None if there is none."""
    match = re.search(rf"<{tag}>\n(.*?)\n</{tag}>", content, re.DOTALL)
    return _HIDDEN_TAG.sub("<", match.group(1)) if match else None
