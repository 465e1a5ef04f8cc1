"""Request bodies. Unknown fields are ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from gems.options import DEFAULT_ROUNDS, MAX_CANDIDATES, MAX_PROMPT, MAX_ROUNDS, SEEDS
from gems.types import Profile

Quality = Literal["auto", "low", "medium", "high", "standard", "hd", "xhigh", "max"]
ROUNDS: dict[Quality, int] = {"low": 1, "medium": 3}
"""Rounds by quality; 5 for all others."""
Format = Literal["png", "jpeg", "webp"]
Prompt = Annotated[str, StringConstraints(min_length=1, max_length=MAX_PROMPT)]
Seed = Annotated[int, Field(ge=0, lt=SEEDS)]


class RunFields(BaseModel):
    """Options of a run; fields that OpenAI does not have are specific to GEMS."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = Field(None, description="`gems`, or the name of the generator. Default: `gems`.")
    size: str | None = Field(
        None,
        description="`auto` or `WIDTHxHEIGHT`; replaced by the nearest size that the generator supports.",
    )
    quality: Quality | None = Field(
        None, description="Sets the number of rounds: `low` is 1, `medium` 3, everything else 5."
    )
    max_rounds: int | None = Field(None, ge=1, le=MAX_ROUNDS, description="Overrides `quality`.")
    candidates: int | None = Field(None, ge=1, le=MAX_CANDIDATES, description="Images per round.")
    seed: Seed | None = Field(None, description="Random seed. Chosen at random if omitted.")
    negative_prompt: str | None = Field(None, max_length=MAX_PROMPT, description="What to avoid.")
    budget_usd: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Limit in US dollars per image."
    )
    deadline_s: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Seconds until the response; limited by the server."
    )
    skills: str | None = Field(None, description="`auto`, `none`, or names separated by commas.")
    profile: Profile | None = None

    @property
    def rounds(self) -> int:
        """Maximum number of rounds."""
        return self.max_rounds or ROUNDS.get(self.quality or "auto", DEFAULT_ROUNDS)


class ImageFields(RunFields):
    """Fields of generating and editing."""

    prompt: Prompt
    n: int | None = Field(None, ge=1, le=10, description="Number of images, each from its own run.")
    background: Literal["auto", "opaque"] | None = None
    output_format: Format | None = Field(None, description="Default: `png`.")
    output_compression: int | None = Field(
        None, ge=0, le=100, description="Quality of `jpeg` and `webp`. Default: 100."
    )
    response_format: str | None = Field(None, description="Ignored: images are always sent as `b64_json`.")
    stream: bool | None = None
    partial_images: int | None = Field(
        None,
        ge=0,
        le=3,
        description="Maximum number of partial images in a stream.",
    )

    @property
    def count(self) -> int:
        """Number of images."""
        return self.n or 1


class ImageBody(ImageFields):
    """The body of `POST /v1/images/generations`."""


class EditBody(ImageFields):
    """The form data of `POST /v1/images/edits`."""

    image: list[UploadFile] = Field(default_factory=list, description="One image: PNG, JPEG or WebP.")
    images: list[UploadFile] = Field(
        default_factory=list, alias="image[]", description="Alternative name of `image`."
    )
    mask: UploadFile | None = Field(None, description="Not supported: describe the change in the prompt.")
    input_fidelity: str | None = None

    @property
    def uploads(self) -> list[UploadFile]:
        """Images of both field names."""
        return [*self.image, *self.images]


class Part(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(extra="ignore")

    type: str
    text: str | None = None
    image_url: dict[str, Any] | str | None = Field(
        None, description="Not supported: images are neither fetched nor edited."
    )


class Message(BaseModel):
    """A message of a conversation; only the last user message is used."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None


class StreamOptions(BaseModel):
    """Options of a streamed response."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool | None = None


class ChatBody(RunFields):
    """The body of `POST /v1/chat/completions`; the last user message is the prompt."""

    messages: list[Message] = Field(min_length=1)
    n: Literal[1] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
