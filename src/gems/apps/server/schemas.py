"""The forms of what the routes take and give."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse

from gems.events import Event, Finished
from gems.memory.ledger import RunRow
from gems.options import MAX_CANDIDATES, MAX_PROMPT, MAX_ROUNDS, SEEDS
from gems.results import RunResult
from gems.runs.source_images import MAX_BASE64
from gems.types import Fork, Options, Profile

Status = Literal["running", "interrupted", "done", "failed"]


class Limits(BaseModel):
    """The options that runs and forks share."""

    model_config = ConfigDict(extra="forbid", strict=True)

    max_rounds: int | None = Field(None, ge=1, le=MAX_ROUNDS, description="5 by default.")
    candidates: int | None = Field(None, ge=1, le=MAX_CANDIDATES, description="Per round; 1 by default.")
    seed: int | None = Field(None, ge=0, lt=SEEDS, description="Random and recorded by default.")
    negative_prompt: str | None = Field(None, max_length=MAX_PROMPT, description="What to avoid.")
    max_images: int | None = Field(None, ge=1, le=1_000_000, description="Most images in all.")
    budget_usd: float | None = Field(None, gt=0, allow_inf_nan=False)
    deadline_s: float | None = Field(None, gt=0, allow_inf_nan=False)
    plateau: int | None = Field(
        None, ge=0, le=MAX_ROUNDS, description="Rounds without progress to stop after, 0 for never."
    )

    def given(self) -> dict[str, Any]:
        """What was said of it."""
        return {name: value for name, value in self.model_dump().items() if value is not None}


class RunRequest(Limits):
    """A run that is asked for."""

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT, description="What to draw.")
    size: str | None = Field(None, max_length=20, description="WIDTHxHEIGHT; the generator's by default.")
    profile: Profile | None = Field(None, description="balanced by default.")
    skills: str | None = Field(
        None,
        max_length=2000,
        description="auto, none, or names separated by commas; the server's by default.",
    )
    memory: bool | None = Field(None, description="Whether it learns from your other runs; true by default.")


class RunBody(RunRequest):
    """A run that is asked for, which may edit a picture.

    LangServe takes none: LangChain's callbacks would be told all of it.
    """

    source: str | None = Field(
        None,
        max_length=MAX_BASE64,
        description="A PNG, JPEG or WebP picture to edit, as base64; the prompt says what to change.",
    )


class ForkRequest(Limits):
    """A fork that is asked for."""

    round: int = Field(ge=1, le=MAX_ROUNDS, description="The last round that is shared.")
    prompt: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_PROMPT,
        description="What to draw next; the reflector's by default.",
    )


class ResumeRequest(BaseModel):
    """How a run is to go on."""

    model_config = ConfigDict(extra="forbid", strict=True)

    answer: str | None = Field(None, max_length=MAX_PROMPT, description="What a skill has asked for.")


class RunBegun(BaseModel):
    """A run that is worked on."""

    run_id: str
    url: str = Field(description="Path of the run.")
    events_url: str = Field(description="Path of what it tells, as server-sent events.")

    @classmethod
    def of(cls, run_id: str) -> RunBegun:
        """The answer for a run."""
        return cls(run_id=run_id, url=f"/runs/{run_id}", events_url=f"/runs/{run_id}/events")


class RunAnswer(RunResult):
    """A run and its best image. Paths of the server's files are left out."""

    image_url: str | None = Field(description="Path of the best image on this server.")
    source_url: str | None = Field(None, description="Path of the image that is edited, where one is.")

    @classmethod
    def of(cls, result: RunResult) -> RunAnswer:
        """The answer with a result."""
        plain = result.model_dump() | {"path": None}
        return cls(
            **plain,
            image_url=image_url(result.image_id),
            source_url=image_url(result.options.get("source")),
        )


class RunEntry(BaseModel):
    """A run in a list."""

    run_id: str
    created: str = Field(description="UTC, ISO 8601.")
    updated: str
    status: Status
    prompt: str
    options: Options
    models: dict[str, str]
    forked_from: Fork | None
    score: float | None = Field(description="None while the run goes on, as the following ones.")
    stop_reason: str | None
    rounds: int | None
    images: int | None
    image_url: str | None

    @classmethod
    def of(cls, row: RunRow) -> RunEntry:
        """The entry of a row of the index."""
        summary = row["summary"]
        told = {name: summary.get(name) for name in ("score", "stop_reason", "rounds", "images")}
        own = {name: value for name, value in row.items() if name in cls.model_fields}
        return cls(**own, **told, image_url=image_url(summary.get("image")))


class RunEntries(BaseModel):
    """Your runs, newest first."""

    runs: list[RunEntry]


class AsciiJSON(JSONResponse):
    """JSON that can be sent whatever is in it: half a surrogate pair, for example."""

    def render(self, content: Any) -> bytes:
        """The bytes of the body."""
        return json.dumps(content).encode("ascii")


def image_url(image_id: str | None) -> str | None:
    """The path of an image on this server."""
    return f"/images/{image_id}.png" if image_id else None


def told_event(event: Event) -> dict[str, Any]:
    """An event as it is sent: with paths on this server in place of the server's files."""
    if isinstance(event, Finished):
        return event.model_dump(mode="json") | {"result": RunAnswer.of(event.result).model_dump(mode="json")}
    plain = event.model_dump(mode="json")
    if event.type == "image":
        plain["path"] = image_url(event.candidate["image"])
    return plain
