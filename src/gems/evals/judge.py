"""Eval judge and its client."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gems.errors import ConfigurationError
from gems.evals.records import gather_or_cancel
from gems.models.chat.client import ChatClient
from gems.models.chat.messages import Picture, Question
from gems.models.factory import open_chat
from gems.models.images import encode_image
from gems.models.specs import parse_chat_spec
from gems.settings import ChatSettings
from gems.types import NO_USAGE, Usage, add_usage

OFFICIAL = "official"
"""The judge name of figures from official scorers."""
_INHOUSE = "-inhouse"
SAMPLES = 5
"""Answers per probability if the endpoint returns none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeQuestion:
    """One question about images."""

    text: str
    pictures: Sequence[bytes]
    """PNG bytes, in order."""
    system: str = ""
    temperature: float | None = 0.0
    """None for the default of the endpoint, as for the next one."""
    max_tokens: int | None = None
    top_logprobs: int = 0
    """Number of likely first tokens to return with probabilities; 0 for none."""
    attempt: int = 0
    """Distinguishes deliberate repetitions of a question, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeReply:
    """The reply of a judge."""

    text: str
    first_token: dict[str, float]
    """Probability in [0, 1] of likely first tokens; empty if the endpoint does not return any."""


def inhouse_name(name: str) -> str:
    """Return the judge name for in-house scores, which tells them from official ones."""
    return name if name.endswith(_INHOUSE) else f"{name}{_INHOUSE}"


class EvalJudge(Protocol):
    """A model that sees images and answers questions."""

    name: str
    """Part of every score, with `-inhouse`."""
    samples: int
    """Answers per probability if the endpoint returns none; 1 gives 0 or 1."""

    async def ask(self, question: JudgeQuestion) -> JudgeReply:
        """Ask once, including retries.

        Raises:
            ProviderError: no answer was received.
        """
        ...


def open_judge(settings: ChatSettings, samples: int = SAMPLES) -> ChatJudge:
    """Create the judge from settings; sends no request.

    Raises `ConfigurationError` if the model cannot judge or a key is missing, `ModelSpecError` if the spec is
    invalid.
    """
    if parse_chat_spec(settings.model).kind == "blocks":
        raise ConfigurationError(
            "The chat model of the built-in world cannot judge a benchmark: it only knows its own shapes.",
            hint="Use a vision model: --judge openai:MODEL@BASE_URL.",
        )
    return ChatJudge(open_chat(settings), name=settings.model, samples=samples)


class ChatJudge:
    """An `EvalJudge` on a chat client that retries; an asynchronous context manager.

    `usage` sums up all answers, including unreadable ones.
    """

    def __init__(self, client: ChatClient, *, name: str, samples: int = SAMPLES) -> None:
        self.name = name
        self.samples = samples
        self.usage: Usage = NO_USAGE
        self._client = client

    async def ask(self, question: JudgeQuestion) -> JudgeReply:
        """Ask once; raises `ProviderError`, or `ConfigurationError` for a rejected key or image."""
        pictures = await gather_or_cancel(self._picture(png) for png in question.pictures)
        asked = Question(
            # Required, but without effect: requests do not contain the task.
            task="verify",
            system=question.system,
            parts=(*pictures, question.text),
            logprobs=question.top_logprobs > 0,
            attempt=question.attempt,
            temperature=question.temperature,
            max_tokens=question.max_tokens,
        )
        reply = await self._client.ask(asked, self._count)
        return JudgeReply(text=reply.text, first_token=reply.first_token)

    async def aclose(self) -> None:
        """Close the connections; safe to call twice."""
        await self._client.aclose()

    async def __aenter__(self) -> ChatJudge:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def _picture(self, png: bytes) -> Picture:
        side = self._client.limits.image_side
        data, media_type = await asyncio.to_thread(encode_image, png, side)
        return Picture(image=hashlib.sha256(png).hexdigest(), data=data, media_type=media_type)

    def _count(self, usage: Usage) -> None:
        self.usage = add_usage(self.usage, usage)
