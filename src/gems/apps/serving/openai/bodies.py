"""What clients send. Fields that are not known are ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from gems.options import DEFAULT_ROUNDS, MAX_CANDIDATES, MAX_PROMPT, MAX_ROUNDS, SEEDS
from gems.types import Profile

Quality = Literal["auto", "low", "medium", "high", "standard", "hd", "xhigh", "max"]
ROUNDS: dict[Quality, int] = {"low": 1, "medium": 3}
"""Rounds by quality; 5 for every other one."""
Format = Literal["png", "jpeg", "webp"]
Prompt = Annotated[str, StringConstraints(min_length=1, max_length=MAX_PROMPT)]
Seed = Annotated[int, Field(ge=0, lt=SEEDS)]


class RunFields(BaseModel):
    """How a run is carried out; the fields that OpenAI does not have are GEMS's own."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = Field(None, description="`gems`, or the generator's name; `gems` by default.")
    size: str | None = Field(
        None, description="`auto` or `WIDTHxHEIGHT`; the nearest that the generator can draw."
    )
    quality: Quality | None = Field(
        None, description="Decides the rounds: `low` is 1, `medium` 3, everything else 5."
    )
    max_rounds: int | None = Field(None, ge=1, le=MAX_ROUNDS, description="In place of `quality`.")
    candidates: int | None = Field(None, ge=1, le=MAX_CANDIDATES, description="Images per round.")
    seed: Seed | None = Field(None, description="Drawn by chance where it is left out.")
    negative_prompt: str | None = Field(None, max_length=MAX_PROMPT, description="What to avoid.")
    budget_usd: float | None = Field(None, gt=0, allow_inf_nan=False, description="US dollars for one image.")
    deadline_s: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Seconds for the answer; the server's own at most."
    )
    skills: str | None = Field(None, description="`auto`, `none`, or names separated by commas.")
    profile: Profile | None = None

    @property
    def rounds(self) -> int:
        """At most so many."""
        return self.max_rounds or ROUNDS.get(self.quality or "auto", DEFAULT_ROUNDS)


class ImageFields(RunFields):
    """What generating and editing have in common."""

    prompt: Prompt
    n: int | None = Field(None, ge=1, le=10, description="Runs side by side; each draws one image.")
    background: Literal["auto", "opaque"] | None = None
    output_format: Format | None = Field(None, description="`png` by default.")
    output_compression: int | None = Field(
        None, ge=0, le=100, description="Quality of `jpeg` and `webp`; 100 by default."
    )
    response_format: str | None = Field(None, description="Images are always sent as `b64_json`.")
    stream: bool | None = None
    partial_images: int | None = Field(
        None,
        ge=0,
        le=3,
        description="Images on the way, at most, where the answer is streamed.",
    )

    @property
    def count(self) -> int:
        """How many images."""
        return self.n or 1


class ImageBody(ImageFields):
    """The body of `POST /v1/images/generations`."""


class EditBody(ImageFields):
    """The form of `POST /v1/images/edits`."""

    image: list[UploadFile] = Field(default_factory=list, description="One image: PNG, JPEG or WebP.")
    images: list[UploadFile] = Field(default_factory=list, alias="image[]", description="The same.")
    mask: UploadFile | None = Field(None, description="Refused: the prompt says what is to change.")
    input_fidelity: str | None = None

    @property
    def uploads(self) -> list[UploadFile]:
        """The images, whichever of the names they came under."""
        return [*self.image, *self.images]


class Part(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(extra="ignore")

    type: str
    text: str | None = None
    image_url: dict[str, Any] | str | None = Field(None, description="Refused: nothing is fetched or edited.")


class Message(BaseModel):
    """A message of a conversation; only the last one of the user's is read."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None


class StreamOptions(BaseModel):
    """How an answer is streamed."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool | None = None


class ChatBody(RunFields):
    """The body of `POST /v1/chat/completions`; the last message of the user is the prompt."""

    messages: list[Message] = Field(min_length=1)
    n: Literal[1] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
