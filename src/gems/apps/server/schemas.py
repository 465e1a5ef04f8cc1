"""Request and response bodies of the routes."""

from __future__ import annotations

import json
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse

from gems.errors import Fault
from gems.events import Event, Finished
from gems.memory.source_images import MAX_BASE64
from gems.options import MAX_PROMPT, MAX_ROUNDS, with_options
from gems.results import RunResult
from gems.types import MAX_INSTRUCTION, Decision, DecisionAction, Fork, Options, RunRow

Status = Literal["running", "interrupted", "done", "failed"]


class StrictBody(BaseModel):
    """Body of a request: unknown fields and other types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)

    def given(self) -> dict[str, Any]:
        """Return the fields that are set."""
        return self.model_dump(exclude_none=True)


@with_options("http")
class RunRequest(StrictBody):
    """Request to start a run."""

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT, description="What to generate.")


class RunBody(RunRequest):
    """Request to start a run, which may edit an image.

    LangServe does not accept images: they would be passed to LangChain's callbacks.
    """

    source: str | None = Field(
        None,
        max_length=MAX_BASE64,
        description="PNG, JPEG, WebP, GIF, AVIF or HEIC image to edit, as base64; the prompt says what to change.",
    )


_IMAGE = "PNG, JPEG, WebP, GIF, AVIF or HEIC image as base64"


@with_options("repair")
class RepairBody(StrictBody):
    """Request to judge an image and mend what it lacks.

    The same fields may be sent as `multipart/form-data`, with the images as files.
    """

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT, description="What the image should show.")
    image: str = Field(max_length=MAX_BASE64, description=f"{_IMAGE}, or a data URL.")
    mask: str | None = Field(
        None,
        max_length=MAX_BASE64,
        description="Image of the same size, white or transparent where the image may change; nothing else changes.",
    )
    instruction: str | None = Field(
        None, max_length=MAX_INSTRUCTION, description="What to change first, in your own words."
    )


class DecisionBody(StrictBody):
    """What a person wants next."""

    action: DecisionAction | None = Field(
        None, description="Default: edit if there is a parent, a mask or an instruction, else continue."
    )
    parent: str | None = Field(None, max_length=64, description="Id of an image of the run. Default: the best one.")
    mask: str | None = Field(
        None, max_length=MAX_BASE64, description="Image of the parent's size, white or transparent where it may change."
    )
    instruction: str | None = Field(None, max_length=MAX_INSTRUCTION, description="What to change, in your own words.")

    def decision(self) -> Decision:
        """Return the fields that are set."""
        return cast("Decision", self.given())


@with_options("fork")
class ForkRequest(StrictBody):
    """Request to start a fork."""

    round: int = Field(ge=1, le=MAX_ROUNDS, description="Last round that both runs share.")
    prompt: str | None = Field(
        None, min_length=1, max_length=MAX_PROMPT, description="Next prompt. Default: that of the reflector."
    )
    decision: DecisionBody | None = Field(
        None, description="What is changed or drawn next, in place of a prompt: edit or redraw."
    )


class ResumeRequest(StrictBody):
    """Request to resume a run."""

    answer: str | None = Field(None, max_length=MAX_PROMPT, description="Answer to a question that a skill asked.")
    decision: DecisionBody | None = Field(None, description="What follows, in a run that asks a person (`ask`).")


class RunBegun(BaseModel):
    """A run in progress."""

    run_id: str
    url: str = Field(description="Path of the run.")
    events_url: str = Field(description="Path of its events, as server-sent events.")

    @classmethod
    def of(cls, run_id: str) -> RunBegun:
        """Build the response for a run."""
        return cls(run_id=run_id, url=f"/runs/{run_id}", events_url=f"/runs/{run_id}/events")


class RunAnswer(RunResult):
    """A run with its best image, without file paths of the server."""

    image_url: str | None = Field(description="Path of the best image on this server.")
    source_url: str | None = Field(None, description="Path of the source image of an edit.")

    @classmethod
    def of(cls, result: RunResult) -> RunAnswer:
        """Build the response from a result."""
        urls = {"image_url": image_url(result.image_id), "source_url": image_url(result.options.get("source"))}
        return cls.model_validate({**dict(result), "path": None, **urls})


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
    score: float | None = Field(description="Null while the run is in progress, as are the following fields.")
    stop_reason: str | None
    rounds: int | None
    images: int | None
    image_url: str | None

    @classmethod
    def of(cls, row: RunRow) -> RunEntry:
        """Build the entry of a row of the ledger."""
        summary = row["summary"]
        progress = {name: summary.get(name) for name in ("score", "stop_reason", "rounds", "images")}
        own = {name: value for name, value in row.items() if name in cls.model_fields}
        return cls(**own, **progress, image_url=image_url(summary.get("image")))


class RunEntries(BaseModel):
    """Your runs, newest first."""

    runs: list[RunEntry]


class ErrorDetails(BaseModel):
    """What was wrong, and what to do."""

    type: str = Field(description="Class of the error, e.g. `OptionError`.")
    message: str
    fault: Fault
    hint: str
    run_id: str = Field(description="Run that failed; empty if none had started.")
    question: Any = Field(None, description="Question that the run asks, of `AnswerNeededError`.")


class ErrorAnswer(BaseModel):
    """Body of an error response, in the format of the CLI."""

    error: ErrorDetails


_MEANINGS = {
    400: "The request asks for something that is not possible.",
    401: "The API key is missing or invalid.",
    403: "A web page of another site sent the request.",
    404: "Not found, or it belongs to another key.",
    409: "The run is in progress, or waits for an answer.",
    413: "The body is too large.",
    429: "A limit of the key is reached. `Retry-After` says when to try again.",
    500: "The server failed; see its log.",
    502: "A model's endpoint failed.",
    503: "The server is stopping, or had no image in time. `Retry-After` says when to try again.",
}


def error_responses(*statuses: int, model: type[BaseModel] = ErrorAnswer) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of the errors of a route."""
    return {status: {"model": model, "description": _MEANINGS[status]} for status in statuses}


ANY_ERRORS = (400, 401, 403, 500, 503)
"""Statuses of errors that every route with a key may answer with."""


class AsciiJSON(JSONResponse):
    """JSON response in ASCII, which can hold lone surrogates."""

    def render(self, content: Any) -> bytes:
        """Encode the body."""
        return json.dumps(content).encode("ascii")


def image_url(image_id: str | None) -> str | None:
    """Return the path of an image on this server."""
    return f"/images/{image_id}.png" if image_id else None


def event_json(event: Event) -> dict[str, Any]:
    """Convert an event to JSON, with URL paths instead of file paths."""
    if isinstance(event, Finished):
        answer = RunAnswer.of(event.result).model_dump(mode="json")
        return event.model_dump(mode="json", exclude={"result"}) | {"result": answer}
    plain = event.model_dump(mode="json")
    if event.type == "image":
        plain["path"] = image_url(event.candidate["image"])
    return plain
