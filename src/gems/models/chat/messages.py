"""One question to a chat model, and what comes back."""

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

    Attributes:
        image: SHA-256 of the stored image; stands for it wherever bytes are not wanted.
        data: The encoded bytes that are sent.
        media_type: For example `image/jpeg`.
        label: Says what the picture is; sent before it, and left out with it.
    """

    image: str
    data: bytes = field(repr=False, compare=False)
    media_type: str
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a chat model is asked.

    Attributes:
        task: Decides the role; its name is the first line of `system`.
        system: Instructions. Stable, so that servers' prefix caches hit; empty for none.
        parts: Texts and pictures of the user message, in order.
        reply: Form of a JSON answer; None for plain text.
        logprobs: Whether the probabilities of yes and of the first token are wanted.
        attempt: From 0; a deliberate repetition of a question raises it.
        temperature: None for the client's own.
        max_tokens: None for the client's own.
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
        """The pictures among the parts, in order."""
        return tuple(part for part in self.parts if isinstance(part, Picture))

    @property
    def text(self) -> str:
        """The user message in words; pictures stand in it by their ids."""
        parts = (part if isinstance(part, str) else f"[image {part.image}]" for part in self.parts)
        return "\n".join(parts)

    def messages(self, max_pictures: int | None = None) -> list[BaseMessage]:
        """LangChain messages; of more pictures than `max_pictures` only the last, newest ones."""
        left_out = 0 if max_pictures is None else max(0, len(self.pictures) - max_pictures)
        content: list[str | dict[str, Any]] = []
        for part in self.parts:
            if isinstance(part, str):
                content.append({"type": "text", "text": part})
            elif left_out:
                left_out -= 1
            else:
                content += _picture_blocks(part)
        return [*([SystemMessage(self.system)] if self.system else []), HumanMessage(content)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatReply:
    """What a chat model answered.

    Attributes:
        text: The answer without the thought.
        thought: The reasoning, where the model shows it.
        parsed: The answer in the form that was asked for; None for plain text.
        yes_probability: In [0, 1]; None where not asked for or not given.
        usage: What all attempts consumed.
        first_token: Probabilities in [0, 1] of likely first tokens; empty where not asked for or not given.
    """

    text: str
    thought: str
    parsed: BaseModel | None
    yes_probability: float | None
    usage: Usage
    first_token: dict[str, float] = field(default_factory=dict)

    def form(self, wanted: type[M]) -> M:
        """The parsed answer.

        Raises:
            TypeError: the question asked for another form.
        """
        if not isinstance(self.parsed, wanted):
            raise TypeError(f"The answer is a {type(self.parsed).__name__}, not a {wanted.__name__}.")
        return self.parsed


def _picture_blocks(picture: Picture) -> list[str | dict[str, Any]]:
    encoded = base64.b64encode(picture.data).decode()
    url = f"data:{picture.media_type};base64,{encoded}"
    image: dict[str, Any] = {"type": "image_url", "image_url": {"url": url}}
    return [{"type": "text", "text": picture.label}, image] if picture.label else [image]
