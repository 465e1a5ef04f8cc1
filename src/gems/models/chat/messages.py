"""A question to a chat model, and its reply."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any, TypeVar

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from pydantic import BaseModel

from gems.models.chat.schemas import Task
from gems.types import Usage

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image in a question: its SHA-256, the encoded bytes to send, and a description sent before it."""

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
        logprobs: Whether to request the probabilities of yes and of the first token, or of each yes in a checklist.
        attempt: From 0; raised when a question is repeated deliberately.
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

    def last_pictures(self, most: int | None) -> tuple[Picture, ...]:
        """Return the last `most` images; None for all."""
        return self.pictures if most is None else self.pictures[max(0, len(self.pictures) - most) :]

    def messages(
        self, max_pictures: int | None = None, *, with_system: bool = True, in_parts: bool = True
    ) -> list[BaseMessage]:
        """Convert to LangChain messages with the last `max_pictures` images.

        Without `with_system` the instructions stand in the user's message; without `in_parts` a message of texts only
        is a single text.
        """
        left_out = len(self.pictures) - len(self.last_pictures(max_pictures))
        content: list[str | dict[str, Any]] = []
        if self.system and not with_system:
            content.append({"type": "text", "text": self.system})
        for part in self.parts:
            if isinstance(part, str):
                content.append({"type": "text", "text": part})
            elif left_out:
                left_out -= 1
            else:
                if part.label:
                    content.append({"type": "text", "text": part.label})
                url = f"data:{part.media_type};base64,{base64.b64encode(part.data).decode()}"
                content.append({"type": "image_url", "image_url": {"url": url}})
        texts = [part["text"] for part in content if isinstance(part, dict) and part["type"] == "text"]
        message = HumanMessage("\n\n".join(texts) if len(texts) == len(content) and not in_parts else content)
        return [*([SystemMessage(self.system)] if self.system and with_system else []), message]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatReply:
    """A chat model's reply without its reasoning, which is in `thought` if the model shows it.

    `parsed` is the reply in the requested schema, None for plain text; `usage` covers all attempts.
    Probabilities are in [0, 1], and None or empty if not requested or not available; those of a checklist are in the
    order of its answers.
    """

    text: str
    thought: str
    parsed: BaseModel | None
    yes_probability: float | None
    usage: Usage
    first_token: dict[str, float] = field(default_factory=dict)
    yes_probabilities: tuple[float | None, ...] = ()

    def form(self, schema: type[M]) -> M:
        """Return the parsed reply; raise `TypeError` if it has another schema."""
        if not isinstance(self.parsed, schema):
            raise TypeError(f"The reply is a {type(self.parsed).__name__}, not a {schema.__name__}.")
        return self.parsed
