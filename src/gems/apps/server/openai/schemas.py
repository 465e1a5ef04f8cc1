"""What is sent back, in OpenAI's form."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, Field

from gems.apps.serving.openai.bodies import Format
from gems.results import RunResult


def now() -> int:
    """Seconds since 1970."""
    return int(time.time())


class InputDetails(BaseModel):
    """What the input tokens are made of; chat models do not tell, so that all count as text."""

    image_tokens: int = 0
    text_tokens: int


class ImageUsage(BaseModel):
    """Tokens of the chat models: the planner's, the judge's and the reflector's."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    total_tokens: int


class ImageData(BaseModel):
    """One image."""

    b64_json: str
    revised_prompt: str = Field(description="The prompt that drew it.")


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
    """A model that can be asked for."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "gems"


class Models(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[Model]


class ChatUsage(BaseModel):
    """The same tokens under the names that chats have for them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatMessage(BaseModel):
    """What the assistant says."""

    role: Literal["assistant"] = "assistant"
    content: str


class Choice(BaseModel):
    """The only choice."""

    index: int = 0
    message: ChatMessage
    finish_reason: Literal["stop"] = "stop"
    logprobs: None = None


class ChatAnswer(BaseModel):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(default_factory=now)
    model: str
    choices: list[Choice]
    usage: ChatUsage


class Delta(BaseModel):
    """What comes next of an answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(BaseModel):
    """The only choice, as far as it comes with one chunk."""

    index: int = 0
    delta: Delta
    finish_reason: Literal["stop"] | None = None


class ChatChunk(BaseModel):
    """A piece of a streamed answer."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: ChatUsage | None = None


def tokens(results: Iterable[RunResult]) -> tuple[int, int]:
    """Input and output tokens of all chat models."""
    shares = [share for result in results for role, share in result.usage.items() if role != "generator"]
    return sum(share["input_tokens"] for share in shares), sum(share["output_tokens"] for share in shares)


def image_usage(results: Iterable[RunResult]) -> ImageUsage:
    """The tokens of some runs."""
    given, made = tokens(results)
    return ImageUsage(
        input_tokens=given,
        input_tokens_details=InputDetails(text_tokens=given),
        output_tokens=made,
        total_tokens=given + made,
    )


def chat_usage(result: RunResult) -> ChatUsage:
    """The tokens of a run."""
    given, made = tokens([result])
    return ChatUsage(prompt_tokens=given, completion_tokens=made, total_tokens=given + made)


def quality_of(rounds: int) -> Literal["low", "medium", "high"]:
    """The quality that so many rounds amount to."""
    if rounds <= 1:
        return "low"
    return "medium" if rounds <= 3 else "high"
