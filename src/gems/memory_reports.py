"""Results of `Gems.memory`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gems.types import TrackRecord

Kind = Literal["experience", "lesson"]


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True)


class Memory(_Report):
    """An experience or a lesson."""

    kind: Kind
    key: str
    generator: str
    similarity: float | None = Field(None, description="To what was searched for; higher is better.")
    value: dict[str, Any]


class Forgotten(_Report):
    """What is, or would be, forgotten."""

    experiences: int
    lessons: int = Field(description="Lessons that were drawn from any of them.")
    pending: int = Field(description="Experiences that were still to be written.")
    done: bool = Field(description="False where it was only looked at.")


class ImportReport(_Report):
    """What an import did."""

    added: int
    updated: int
    unchanged: int
    faults: list[tuple[int, str]] = Field(description="Line number from 1, and what is wrong with the line.")


class ConsolidationReport(_Report):
    """What consolidation did."""

    experiences: int = Field(description="Experiences looked at.")
    lessons: int = Field(description="Lessons there are now.")
    added: int = Field(description="New ones.")
    removed: int = Field(
        description="Those whose place new ones took, and those that rest on nothing anymore."
    )
    unwritten: list[str] = Field(description="Why the chat model wrote none, once per failure.")


class Stats(_Report):
    """What is kept."""

    where: str
    embedder: str
    experiences: dict[str, int] = Field(description="By generator.")
    lessons: dict[str, int] = Field(description="By generator.")
    pending: int = Field(description="Operations that are still to be carried out.")
    record: TrackRecord = Field(description="Of all lessons and experiences together.")


class Rebuilt(_Report):
    """What was made anew."""

    runs: int
    experiences: int
    unreadable: list[str] = Field(description="Runs whose trajectory cannot be read.")
    aside: str = Field(description="Where the old store is now; empty where there was none.")
    done: bool = Field(description="False where it was only looked at.")
