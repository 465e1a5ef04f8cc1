"""What is remembered of a round for later runs, as an item of a LangGraph store.

Experiences and the lessons drawn from them live in namespaces of their own per generator, since a wording
that one generator heeds is lost on another.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, Literal, cast

from typing_extensions import TypedDict

from gems.types import RequirementKind, TrackRecord

EXPERIENCES: Final = "experiences"
LESSONS: Final = "lessons"
MAX_WORDS = 100
"""Of an experience's or a lesson's text."""


class Checked(TypedDict):
    """A requirement as an experience remembers it."""

    kind: RequirementKind
    question: str


class Remembered(TypedDict):
    """An experience: what one round taught, and how the next one went."""

    run: str
    round: int
    """From 1."""
    prompt: str
    """The user's prompt."""
    generator: str
    skills: list[str]
    failed: list[Checked]
    """What failed in the round."""
    passed: list[Checked]
    text: str
    """At most 100 words."""
    next_prompt: str
    score: float
    """In [0, 1]."""
    score_after: float | None
    """The next round's score; None where there was none."""
    failed_after: list[Checked]
    """What failed in the next round."""
    passed_after: list[Checked]
    at: str
    """UTC, ISO 8601."""
    record: TrackRecord
    text_indexed: str
    """What it is found by: the prompt and what failed."""


class Lesson(TypedDict):
    """What several experiences have in common."""

    generator: str
    skills: list[str]
    kinds: list[RequirementKind]
    """Kinds of requirements that it is about."""
    text: str
    """At most 100 words."""
    sources: list[list[Any]]
    """`[run, round]` of each experience that it was drawn from."""
    by: Literal["model", "medoid"]
    """Who wrote it: the chat model, or it is the experience in the middle of the others."""
    at: str
    record: TrackRecord
    text_indexed: str


def no_record() -> TrackRecord:
    """The track record of what was never shown."""
    return {"shown": 0, "helped": 0, "hurt": 0}


def shelf(generator: str, owner: str) -> str:
    """The generator's name for what an owner's runs learn from; nobody is shown prompts of another one."""
    return f"{generator} of {owner}" if owner else generator


def namespace(kind: Literal["experiences", "lessons"], generator: str) -> tuple[str, str]:
    """Where experiences or lessons about a generator are kept."""
    # LangGraph allows no dots in a namespace's labels.
    return kind, generator.replace(".", "_") or "unknown"


def experience_key(run: str, number: int) -> str:
    """An experience's key within its namespace."""
    return f"{run}:{number}"


def indexed_text(prompt: str, questions: Iterable[str]) -> str:
    """What an experience or a lesson is found by."""
    return "\n".join([prompt, *questions])


def kinds_of(checked: Iterable[Checked]) -> list[RequirementKind]:
    """The kinds among requirements, each once."""
    return cast("list[RequirementKind]", sorted({item["kind"] for item in checked}))


def shortened(text: str) -> str:
    """The text on one line, in at most 100 words."""
    return " ".join(text.split()[:MAX_WORDS])


def now() -> str:
    """This moment as experiences write it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
