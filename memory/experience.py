"""Experiences and lessons, as items of a LangGraph store.

Each generator has its own namespaces, since wording that works with one generator may not with another.
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
"""Maximum length of the text of an experience or a lesson."""


class Checked(TypedDict):
    """A requirement in an experience."""

    kind: RequirementKind
    question: str


class StoredExperience(TypedDict):
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
    """The text that searches match: the prompt and what failed."""


class Lesson(TypedDict):
    """What several experiences have in common."""

    generator: str
    skills: list[str]
    kinds: list[RequirementKind]
    """Kinds of requirements that the lesson is about."""
    text: str
    """At most 100 words."""
    sources: list[list[Any]]
    """`[run, round]` of each experience behind it."""
    by: Literal["model", "medoid"]
    """Written by the chat model, or the text of the experience nearest to the centroid."""
    at: str
    record: TrackRecord
    text_indexed: str


def no_record() -> TrackRecord:
    """Return an empty track record."""
    return {"shown": 0, "helped": 0, "hurt": 0}


def memory_namespace(generator: str, owner: str) -> str:
    """Return the generator's name for an owner's runs; owners do not see each other's prompts."""
    return f"{generator} of {owner}" if owner else generator


def namespace(kind: Literal["experiences", "lessons"], generator: str) -> tuple[str, str]:
    """Return the namespace of experiences or lessons about a generator."""
    # LangGraph does not allow dots in labels of a namespace.
    return kind, generator.replace(".", "_") or "unknown"


def experience_key(run: str, number: int) -> str:
    """Return an experience's key within its namespace."""
    return f"{run}:{number}"


def indexed_text(prompt: str, questions: Iterable[str]) -> str:
    """Return the text that searches for an experience or a lesson match."""
    return "\n".join([prompt, *questions])


def kinds_of(checked: Iterable[Checked]) -> list[RequirementKind]:
    """Return the kinds of the requirements, each once."""
    return cast("list[RequirementKind]", sorted({item["kind"] for item in checked}))


def shorten(text: str) -> str:
    """Return the text on one line, cut to 100 words."""
    return " ".join(text.split()[:MAX_WORDS])


def now() -> str:
    """Return the current time in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class PendingOp(TypedDict):
    """One operation on the store."""

    id: str
    """Identifies the operation: the same one is not executed twice."""
    kind: Literal["put", "credit"]
    """A credit adds to an item's track record."""
    namespace: list[str]
    key: str
    value: dict[str, Any]
