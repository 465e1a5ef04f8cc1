"""Experiences and lessons as JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from gems.memory.experience import MAX_WORDS, StepOutcome, experience_key, indexed_text, no_record, now
from gems.memory.measurements import BoxOutcome, Look
from gems.types import Recheck, RequirementKind, TrackRecord

MAX_LINE = 65_536
"""Maximum size of a line in bytes."""
_MAX_INT = 2**31 - 1


def _encodable(text: str) -> str:
    # JSON can encode lone surrogates, which no store accepts.
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it contains a lone surrogate") from None
    return text


def _to_utc(at: str) -> str:
    if not at:
        return at
    try:
        moment = datetime.fromisoformat(at)
        # Times without a time zone are UTC, as everything that is written here.
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError):
        raise ValueError("it is not an ISO 8601 date") from None


_Text = Annotated[str, AfterValidator(_encodable)]
_Time = Annotated[str, AfterValidator(_to_utc)]
_Name = Annotated[_Text, Field(min_length=1, max_length=200, pattern=r"\S")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Entry(_Strict):
    generator: _Name
    text: _Text = Field(pattern=r"\S")
    skills: list[_Text] = []
    at: _Time = ""
    record: TrackRecord = Field(default_factory=no_record)
    text_indexed: _Text = ""
    """The text that searches match."""

    @field_validator("text")
    @classmethod
    def _check_length(cls, text: str) -> str:
        if len(text.split()) > MAX_WORDS:
            raise ValueError(f"it has {len(text.split())} words; the maximum is {MAX_WORDS}")
        return text

    @field_validator("record")
    @classmethod
    def _check_counts(cls, record: TrackRecord) -> TrackRecord:
        if not all(0 <= count <= _MAX_INT for count in (record["shown"], record["helped"], record["hurt"])):
            raise ValueError(f"its counts must be from 0 to {_MAX_INT:,}")
        return record


class CheckedEntry(_Strict):
    """A requirement in an experience."""

    kind: RequirementKind
    question: _Text


class ExperienceEntry(_Entry):
    """An experience: what one round of a run taught, and how the next round went."""

    type: Literal["experience"] = "experience"
    run: _Name
    round: int = Field(ge=1, le=_MAX_INT)
    prompt: _Text
    """The user's."""
    failed: list[CheckedEntry]
    passed: list[CheckedEntry] = []
    next_prompt: _Text = ""
    score: float = Field(ge=0, le=1)
    score_after: float | None = Field(None, ge=0, le=1)
    """None if no round followed."""
    failed_after: list[CheckedEntry] = []
    passed_after: list[CheckedEntry] = []
    action_after: Literal["", "draw", "redraw", "edit", "inpaint"] = ""
    """How the next round made its image; empty if none followed, or for experiences of earlier versions."""
    steps_after: list[StepOutcome] = []
    """What came of it."""


class LessonEntry(_Entry):
    """What several experiences have in common."""

    type: Literal["lesson"]
    key: _Name
    kinds: list[RequirementKind]
    """Kinds of requirements that the lesson is about."""
    sources: list[tuple[_Text, int]] = Field(min_length=1)
    """Run and round of each experience."""
    by: Literal["model", "medoid"]
    """Written by the chat model, or the text of the experience nearest to the centroid."""


class MeasurementEntry(_Strict):
    """What one round of a run measured of instruments, boxes and probabilities."""

    type: Literal["measurement"]
    generator: _Name
    run: _Name
    round: int = Field(ge=1, le=_MAX_INT)
    prompt: _Text
    """The user's."""
    judge: _Text
    """The judge's model."""
    looks: list[Look] = []
    boxes: list[BoxOutcome] = []
    rechecks: list[Recheck] = []
    at: _Time = ""
    text_indexed: _Text = ""


LineKind = Literal["experience", "lesson", "measurement"]


def format_line(kind: LineKind, key: str, value: Mapping[str, Any]) -> str:
    """Return an item of the store as a line, without the line end."""
    entry = {"type": kind, **({"key": key} if kind == "lesson" else {}), **value}
    # An import completes it; shorter lines are more likely to be within its limit.
    if kind == "experience" and entry.get("text_indexed") == _default_index(value["prompt"], value["failed"]):
        del entry["text_indexed"]
    return json.dumps(entry, ensure_ascii=False, sort_keys=True)


def read_line(line: str | bytes) -> tuple[LineKind, str, dict[str, Any]]:
    """Return the kind, the key and the value of the item on a line; ValueError says what is wrong with it."""
    raw = line.encode(errors="surrogatepass") if isinstance(line, str) else line
    if len(raw) > MAX_LINE:
        raise ValueError(f"it has {len(raw):,} bytes; the maximum is {MAX_LINE:,}")
    try:
        given = json.loads(raw.decode())
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from None
    kind = given.get("type") if isinstance(given, dict) else None
    forms: dict[str, type[ExperienceEntry | LessonEntry | MeasurementEntry]] = {
        "lesson": LessonEntry,
        "measurement": MeasurementEntry,
    }
    try:
        entry = forms.get(str(kind), ExperienceEntry).model_validate(given)
    except ValidationError as error:
        raise ValueError(_format_errors(error)) from None
    value = entry.model_dump(exclude={"type", "key"})
    value["at"] = value["at"] or now()
    if isinstance(entry, LessonEntry):
        value["sources"] = [list(source) for source in entry.sources]
        value["text_indexed"] = value["text_indexed"] or entry.text
        return "lesson", entry.key, value
    if isinstance(entry, MeasurementEntry):
        value["text_indexed"] = value["text_indexed"] or entry.prompt
        return "measurement", experience_key(entry.run, entry.round), value
    value["text_indexed"] = value["text_indexed"] or _default_index(value["prompt"], value["failed"])
    return "experience", experience_key(entry.run, entry.round), value


def numbered_lines(lines: Iterable[str | bytes]) -> Iterable[tuple[int, str | bytes]]:
    """Return the lines that are not blank, with their numbers from 1."""
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _default_index(prompt: str, failed: Iterable[Mapping[str, Any]]) -> str:
    return indexed_text(prompt, [item["question"] for item in failed])


def _format_errors(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'line'}: {fault['msg'].removeprefix('Value error, ')}"
        for fault in error.errors(include_input=False, include_url=False)[:5]
    )
