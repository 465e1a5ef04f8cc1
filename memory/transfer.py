"""Experiences and lessons as JSON Lines, for other homes and other people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from gems.memory.experience import MAX_WORDS, experience_key, indexed_text, no_record, now
from gems.types import RequirementKind, TrackRecord

MAX_LINE = 65_536
"""Bytes of a line."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    generator: str = Field(min_length=1, max_length=200)
    text: str = Field(min_length=1)
    skills: list[str] = []
    at: str = ""
    record: TrackRecord = Field(default_factory=no_record)
    text_indexed: str = ""

    @field_validator("text")
    @classmethod
    def _short(cls, text: str) -> str:
        if len(text.split()) > MAX_WORDS:
            raise ValueError(f"it has {len(text.split())} words; at most {MAX_WORDS} are taken")
        return text


class CheckedEntry(BaseModel):
    """A requirement in an experience."""

    model_config = ConfigDict(extra="forbid")

    kind: RequirementKind
    question: str


class ExperienceEntry(_Entry):
    """An experience on a line of its own; see `gems.memory.experience.Remembered`."""

    type: Literal["experience"] = "experience"
    run: str = Field(min_length=1, max_length=200)
    round: int = Field(ge=1)
    prompt: str
    failed: list[CheckedEntry]
    passed: list[CheckedEntry] = []
    next_prompt: str = ""
    score: float = Field(ge=0, le=1)
    score_after: float | None = Field(None, ge=0, le=1)
    failed_after: list[CheckedEntry] = []
    passed_after: list[CheckedEntry] = []


class LessonEntry(_Entry):
    """A lesson on a line of its own; see `gems.memory.experience.Lesson`."""

    type: Literal["lesson"]
    key: str = Field(min_length=1, max_length=200)
    kinds: list[RequirementKind]
    sources: list[tuple[str, int]]
    by: Literal["model", "medoid"]


def line_of(kind: Literal["experience", "lesson"], key: str, value: Mapping[str, Any]) -> str:
    """An item of the store as a line, without its end."""
    named = {"key": key} if kind == "lesson" else {}
    return json.dumps({"type": kind, **named, **value}, ensure_ascii=False, sort_keys=True)


def read_line(line: str | bytes) -> tuple[Literal["experience", "lesson"], str, dict[str, Any]]:
    """The kind, the key and the value of the item that a line holds.

    Raises:
        ValueError: the line is not such an item; the message says what is wrong.
    """
    raw = line.encode(errors="surrogatepass") if isinstance(line, str) else line
    if len(raw) > MAX_LINE:
        raise ValueError(f"it has {len(raw):,} bytes; at most {MAX_LINE:,} are taken")
    try:
        given = json.loads(raw.decode())
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from None
    form = LessonEntry if isinstance(given, dict) and given.get("type") == "lesson" else ExperienceEntry
    try:
        entry = form.model_validate(given)
    except ValidationError as error:
        raise ValueError(_faults(error)) from None
    value = entry.model_dump(exclude={"type", "key"})
    value["at"] = value["at"] or now()
    if isinstance(entry, LessonEntry):
        value["sources"] = [list(source) for source in entry.sources]
        value["text_indexed"] = value["text_indexed"] or entry.text
        return "lesson", entry.key, value
    questions = [item.question for item in entry.failed]
    value["text_indexed"] = value["text_indexed"] or indexed_text(entry.prompt, questions)
    return "experience", experience_key(entry.run, entry.round), value


def numbered_lines(lines: Iterable[str | bytes]) -> Iterable[tuple[int, str | bytes]]:
    """The lines that are not blank, with their numbers from 1."""
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'line'}: "
        f"{fault['msg'].removeprefix('Value error, ')}"
        for fault in error.errors(include_input=False, include_url=False)[:5]
    )
