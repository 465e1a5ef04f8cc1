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
    similarity: float | None = Field(None, description="Similarity to the search text; higher is better.")
    value: dict[str, Any]


class Forgotten(_Report):
    """Deleted experiences and lessons."""

    experiences: int
    lessons: int = Field(description="Lessons built from any of them.")
    pending: int = Field(description="Experiences that were not written yet.")
    done: bool = Field(description="False for a dry run.")


class ImportReport(_Report):
    """Result of an import."""

    added: int
    updated: int
    unchanged: int
    faults: list[tuple[int, str]] = Field(description="Line number from 1, and what is wrong with the line.")


class ConsolidationReport(_Report):
    """Result of a consolidation."""

    experiences: int = Field(description="Number of experiences.")
    lessons: int = Field(description="Number of lessons now.")
    added: int = Field(description="New lessons.")
    removed: int = Field(description="Lessons that were replaced or no longer have sources.")
    unwritten: list[str] = Field(description="Errors of the chat model.")


class Stats(_Report):
    """Content of the store of experiences."""

    where: str
    embedder: str
    experiences: dict[str, int] = Field(description="By generator.")
    lessons: dict[str, int] = Field(description="By generator.")
    pending: int = Field(description="Pending operations.")
    record: TrackRecord = Field(description="Sum over all lessons and experiences.")


class Rebuilt(_Report):
    """Result of a rebuild."""

    runs: int
    experiences: int
    unreadable: list[str] = Field(description="Runs whose trajectory cannot be read.")
    aside: str = Field(description="Path of the old store; empty if there was none.")
    done: bool = Field(description="False for a dry run.")
