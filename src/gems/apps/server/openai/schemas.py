"""OpenAI request and response models."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from gems.options import DEFAULT_ROUNDS, MAX_PROMPT, given_options, with_options
from gems.results import RunResult
from gems.types import Usage

Quality = Literal["auto", "low", "medium", "high", "standard", "hd", "xhigh", "max"]
ROUNDS: dict[Quality, int] = {"low": 1, "medium": 3}
"""Rounds by quality; 5 for all others."""
Format = Literal["png", "jpeg", "webp"]
Background = Literal["opaque", "transparent"]
Prompt = Annotated[str, StringConstraints(min_length=1, max_length=MAX_PROMPT)]


@with_options("openai")
class RunFields(BaseModel):
    """Options of a run; fields that OpenAI does not have are specific to GEMS."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = Field(None, description="`gems`, or the name of a generator on offer. Default: `gems`.")
    size: str | None = Field(
        None, description="`auto` or `WIDTHxHEIGHT`; replaced by the nearest size that the generator supports."
    )
    quality: Quality | None = Field(
        None,
        description="Sets the maximum number of rounds: `low` is 1, `medium` 3, everything else the default of a run; "
        "`max_rounds` overrides it.",
    )
    keep_running: bool | None = Field(
        None, description="Whether the run goes on if the client disconnects. Default: false."
    )

    @property
    def rounds(self) -> int:
        """Maximum number of rounds; `max_rounds` overrides `quality`."""
        given = given_options(self)
        usual = DEFAULT_ROUNDS[given.get("profile") or "balanced"]
        return given.get("max_rounds") or ROUNDS.get(self.quality or "auto", usual)


class ImageForm(BaseModel):
    """How images are sent."""

    background: Background | Literal["auto"] | None = Field(
        None, description="`transparent` needs a server whose generator is set to draw such images."
    )
    output_format: Format | None = Field(None, description="Default: `png`.")
    output_compression: int | None = Field(
        None, ge=0, le=100, description="Quality of `jpeg` and `webp`. Default: 100."
    )
    partial_images: int | None = Field(None, ge=0, le=3, description="Maximum number of partial images in a stream.")


class ImageFields(RunFields, ImageForm):
    """Fields of generating and editing."""

    prompt: Prompt
    n: int | None = Field(None, ge=1, le=10, description="Number of images, each from its own run.")
    response_format: str | None = Field(None, description="Ignored: images are always sent as `b64_json`.")
    stream: bool | None = None

    @property
    def count(self) -> int:
        """Number of images."""
        return self.n or 1


class ImageBody(ImageFields):
    """The body of `POST /v1/images/generations`."""


class EditBody(ImageFields):
    """The form data of `POST /v1/images/edits`."""

    image: list[UploadFile] = Field(default_factory=list, description="One image: PNG, JPEG, WebP, GIF, AVIF or HEIC.")
    images: list[UploadFile] = Field(default_factory=list, alias="image[]", description="Alternative name of `image`.")
    mask: UploadFile | None = Field(
        None, description="Image of the same size, transparent where it may change. No other pixel changes."
    )
    input_fidelity: str | None = None

    @property
    def uploads(self) -> list[UploadFile]:
        """Images of both field names."""
        return [*self.image, *self.images]


class Part(BaseModel):
    """A part of a message."""

    type: str
    text: str | None = None
    image_url: dict[str, Any] | str | None = Field(
        None, description="A data URL, or the address of an image of this server; others are not fetched."
    )


Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class Message(BaseModel):
    """A message of a conversation. The last user message is the request, which may be about an earlier picture."""

    role: Role
    content: str | list[Part] | None = None
    images: list[Any] | None = Field(None, description="Images of an answer, as this server sends them.")


class StreamOptions(BaseModel):
    """Options of a streamed response."""

    include_usage: bool | None = None


class ChatBody(RunFields):
    """The body of `POST /v1/chat/completions`; the last user message is the request."""

    messages: list[Message] = Field(min_length=1)
    modalities: list[str] | None = Field(
        None, description="With `image`, the answer has its image in `images` and not in the text."
    )
    n: Literal[1] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


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
    background: Background = "opaque"
    output_format: Format
    quality: Literal["low", "medium", "high"]
    size: str
    usage: ImageUsage


ImageEventType = Literal[
    "image_generation.partial_image", "image_generation.completed", "image_edit.partial_image", "image_edit.completed"
]


class ImageEvent(BaseModel):
    """One event of a streamed image."""

    type: ImageEventType
    b64_json: str
    background: Background = "opaque"
    created_at: int = Field(default_factory=now)
    output_format: Format
    quality: Literal["low", "medium", "high"]
    size: str
    partial_image_index: int | None = None
    revised_prompt: str | None = None
    usage: ImageUsage | None = None
    stop_reason: str | None = Field(None, description="Why the run ended, e.g. `passed` or `deadline`.")


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


class ImageAddress(BaseModel):
    """A data URL."""

    url: str


class ReplyImage(BaseModel):
    """An image of a reply."""

    type: Literal["image_url"] = "image_url"
    image_url: ImageAddress


class ChatMessage(BaseModel):
    """The reply."""

    role: Literal["assistant"] = "assistant"
    content: str
    images: list[ReplyImage] | None = Field(None, exclude_if=lambda images: images is None)


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
    images: list[ReplyImage] | None = None


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


class ImageTool(ImageForm):
    """The tool `image_generation`."""

    type: str = Field(max_length=80)
    size: str | None = None
    quality: Quality | None = None
    action: Literal["auto", "generate", "edit"] | None = None
    input_image_mask: dict[str, Any] | None = Field(None, description="Not supported.")


class InputItem(BaseModel):
    """A message, or an image of an earlier response."""

    type: str = Field("message", max_length=80)
    role: Role | None = None
    content: str | list[Part] | None = None
    result: str | None = Field(None, description="Image of an `image_generation_call`, as base64.")


class ResponseBody(RunFields):
    """The body of `POST /v1/responses`; the last user message of the input is the request."""

    input: str | list[InputItem]
    tools: list[ImageTool] | None = Field(None, description="One of type `image_generation`.")
    tool_choice: str | dict[str, Any] | None = None
    stream: bool | None = None
    background: bool | None = Field(None, description="Not supported, as are the following fields.")
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    prompt: dict[str, Any] | None = None


class ImageCall(BaseModel):
    """An image of a response."""

    type: Literal["image_generation_call"] = "image_generation_call"
    id: str
    status: Literal["in_progress", "completed"] = "in_progress"
    action: Literal["generate", "edit"]
    result: str | None = Field(None, description="The image as base64.")
    revised_prompt: str | None = Field(None, description="Prompt that generated the image.")
    background: Background | None = None
    output_format: Format | None = None
    quality: Literal["low", "medium", "high"] | None = None
    size: str | None = None


class OutputText(BaseModel):
    """A text of a message."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any] = []


class OutputMessage(BaseModel):
    """What a response says about its image."""

    type: Literal["message"] = "message"
    id: str
    status: Literal["in_progress", "completed"] = "in_progress"
    role: Literal["assistant"] = "assistant"
    content: list[OutputText] = []


class CachedTokens(BaseModel):
    """Cached input tokens; not counted here."""

    cached_tokens: int = 0


class ReasoningTokens(BaseModel):
    """Output tokens of reasoning; not counted here."""

    reasoning_tokens: int = 0


class ResponseUsage(BaseModel):
    """Tokens of all chat models of the loop."""

    input_tokens: int
    input_tokens_details: CachedTokens = CachedTokens()
    output_tokens: int
    output_tokens_details: ReasoningTokens = ReasoningTokens()
    total_tokens: int

    @classmethod
    def of(cls, usage: ChatUsage) -> ResponseUsage:
        """Convert the tokens of a chat."""
        return cls(
            input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens, total_tokens=usage.total_tokens
        )


class ResponseAnswer(BaseModel):
    """A response."""

    id: str
    object: Literal["response"] = "response"
    created_at: int = Field(default_factory=now)
    status: Literal["queued", "in_progress", "completed"] = "in_progress"
    model: str
    output: list[ImageCall | OutputMessage] = []
    usage: ResponseUsage | None = None
    error: None = None
    incomplete_details: None = None
    metadata: dict[str, str] = Field({}, description="`run_id`, and at the end `stop_reason`.")
    parallel_tool_calls: bool = False
    tool_choice: str = "auto"
    tools: list[ImageTool] = []


class ResponseEvent(BaseModel):
    """One event of a streamed response, with further fields by its type."""

    model_config = ConfigDict(extra="allow")

    type: str
    sequence_number: int
    response: ResponseAnswer | None = None


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


def chat_usage(result: RunResult | None, *more: Mapping[str, Usage]) -> ChatUsage:
    """Return the tokens of a run and of further questions."""
    given, made = tokens([result] if result else [])
    for share in (share for usage in more for share in usage.values()):
        given, made = given + share["input_tokens"], made + share["output_tokens"]
    return ChatUsage(prompt_tokens=given, completion_tokens=made, total_tokens=given + made)


def quality_of(rounds: int) -> Literal["low", "medium", "high"]:
    """Return the quality that corresponds to a number of rounds."""
    if rounds <= 1:
        return "low"
    return "medium" if rounds <= 3 else "high"
