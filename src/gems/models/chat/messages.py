"""A question to a chat model, and its reply."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any, TypeVar

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from pydantic import BaseModel

from gems.models.schemas import Task
from gems.types import Usage

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image inside a question.

    `image` is the SHA-256 of the stored image, `data` the encoded bytes to send; `label` describes the image
    and is sent before it.
    """

    image: str
    data: bytes = field(repr=False, compare=False)
    media_type: str
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request to a chat model.

    Attributes:
        task: Decides the role; its name is the first line of `system`.
        system: Instructions, stable so that servers' prefix caches hit; empty for none.
        parts: Texts and images of the user message, in order.
        reply: Schema of a JSON reply; None for plain text.
        logprobs: Whether to request the probabilities of yes and of the first token.
        attempt: From 0; raised when a question is repeated deliberately.
        temperature: None for the client's default.
        max_tokens: None for the client's default.
    """

    task: Task
    system: str
    parts: tuple[str | Picture, ...]
    reply: type[BaseModel] | None = None
    logprobs: bool = False
    attempt: int = 0
    temperature: float | None = None
    max_tokens: int | None = None

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Images among the parts, in order."""
        return tuple(part for part in self.parts if isinstance(part, Picture))

    @property
    def text(self) -> str:
        """Text of the user message, with the ids of its images."""
        parts = (part if isinstance(part, str) else f"[image {part.image}]" for part in self.parts)
        return "\n".join(parts)

    def messages(self, max_pictures: int | None = None) -> list[BaseMessage]:
        """Convert to LangChain messages with the last `max_pictures` images."""
        left_out = 0 if max_pictures is None else max(0, len(self.pictures) - max_pictures)
        content: list[str | dict[str, Any]] = []
        for part in self.parts:
            if isinstance(part, str):
                content.append({"type": "text", "text": part})
            elif left_out:
                left_out -= 1
            else:
                content += _make_image_blocks(part)
        return [*([SystemMessage(self.system)] if self.system else []), HumanMessage(content)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatReply:
    """A chat model's reply.

    Attributes:
        text: The reply without the reasoning.
        thought: The reasoning, if the model shows it.
        parsed: The reply in the requested schema; None for plain text.
        yes_probability: In [0, 1]; None if not requested or not available.
        usage: Usage of all attempts.
        first_token: Probabilities in [0, 1] of likely first tokens; empty if not requested or not available.
    """

    text: str
    thought: str
    parsed: BaseModel | None
    yes_probability: float | None
    usage: Usage
    first_token: dict[str, float] = field(default_factory=dict)

    def form(self, schema: type[M]) -> M:
        """Return the parsed reply; raise `TypeError` if it has another schema."""
        if not isinstance(self.parsed, schema):
            raise TypeError(f"The reply is a {type(self.parsed).__name__}, not a {schema.__name__}.")
        return self.parsed


def _make_image_blocks(picture: Picture) -> list[str | dict[str, Any]]:
    encoded = base64.b64encode(picture.data).decode()
    url = f"data:{picture.media_type};base64,{encoded}"
    image: dict[str, Any] = {"type": "image_url", "image_url": {"url": url}}
    return [{"type": "text", "text": picture.label}, image] if picture.label else [image]
