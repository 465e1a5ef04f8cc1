"""Request and response bodies of the OpenAI-compatible API."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, Field

from gems.apps.serving.openai.bodies import Format
from gems.results import RunResult


def now() -> int:
    """Return the Unix time in seconds."""
    return int(time.time())


class InputDetails(BaseModel):
    """Breakdown of input tokens; all count as text, since chat models do not report it."""

    image_tokens: int = 0
    text_tokens: int


class ImageUsage(BaseModel):
    """Tokens of all chat models of the loop."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    total_tokens: int


class ImageData(BaseModel):
    """One image."""

    b64_json: str
    revised_prompt: str = Field(description="Prompt that generated the image.")


class ImagesAnswer(BaseModel):
    """Images."""

    created: int = Field(default_factory=now)
    data: list[ImageData]
    background: Literal["opaque"] = "opaque"
    output_format: Format
    quality: Literal["low", "medium", "high"]
    size: str
    usage: ImageUsage


ImageEventType = Literal[
    "image_generation.partial_image",
    "image_generation.completed",
    "image_edit.partial_image",
    "image_edit.completed",
]


class ImageEvent(BaseModel):
    """One event of a streamed image."""

    type: ImageEventType
    b64_json: str
    background: Literal["opaque"] = "opaque"
    created_at: int = Field(default_factory=now)
    output_format: Format
    quality: Literal["low", "medium", "high"]
    size: str
    partial_image_index: int | None = None
    revised_prompt: str | None = None
    usage: ImageUsage | None = None


class Model(BaseModel):
    """A model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "gems"


class Models(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[Model]


class ChatUsage(BaseModel):
    """Tokens of all chat models of the loop."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatMessage(BaseModel):
    """The reply."""

    role: Literal["assistant"] = "assistant"
    content: str


class Choice(BaseModel):
    """The only choice."""

    index: int = 0
    message: ChatMessage
    finish_reason: Literal["stop"] = "stop"
    logprobs: None = None


class ChatAnswer(BaseModel):
    """A complete response."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(default_factory=now)
    model: str
    choices: list[Choice]
    usage: ChatUsage


class Delta(BaseModel):
    """The next piece of a response."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(BaseModel):
    """The part of the only choice in one chunk."""

    index: int = 0
    delta: Delta
    finish_reason: Literal["stop"] | None = None


class ChatChunk(BaseModel):
    """A chunk of a streamed response."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: ChatUsage | None = None


def tokens(results: Iterable[RunResult]) -> tuple[int, int]:
    """Return input and output tokens of all chat models."""
    shares = [share for result in results for role, share in result.usage.items() if role != "generator"]
    return sum(share["input_tokens"] for share in shares), sum(share["output_tokens"] for share in shares)


def image_usage(results: Iterable[RunResult]) -> ImageUsage:
    """Sum the tokens of runs."""
    given, made = tokens(results)
    return ImageUsage(
        input_tokens=given,
        input_tokens_details=InputDetails(text_tokens=given),
        output_tokens=made,
        total_tokens=given + made,
    )


def chat_usage(result: RunResult) -> ChatUsage:
    """Return the tokens of a run."""
    given, made = tokens([result])
    return ChatUsage(prompt_tokens=given, completion_tokens=made, total_tokens=given + made)


def quality_of(rounds: int) -> Literal["low", "medium", "high"]:
    """Return the quality that corresponds to a number of rounds."""
    if rounds <= 1:
        return "low"
    return "medium" if rounds <= 3 else "high"
