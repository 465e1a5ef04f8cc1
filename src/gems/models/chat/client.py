"""A chat endpoint: its limits, its retries, and what was learned about what it can do.

Servers differ in what they take: JSON schemas, JSON mode, log probabilities, several images, some OpenAI
parameters. Nothing of that is configured. A refused feature is left out, and once a request has gone through
without it, the client remembers that for as long as it lives.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.constants import TAG_NOSTREAM
from pydantic import BaseModel

from gems.errors import (
    GemsError,
    RefusedError,
    RejectedRequestError,
    TooManyImagesError,
    UnreadableReplyError,
)
from gems.models.chat.capabilities import (
    FEATURES,
    ChatLimits,
    fewer_pictures,
    next_to_leave_out,
    response_format,
    structured_mode,
)
from gems.models.chat.messages import ChatReply, Question
from gems.models.chat.parsing import first_token, mended, read_json, split_thought, yes_probability
from gems.models.concurrency import Places
from gems.models.http import translate, with_retries
from gems.models.usage import NOTHING, added
from gems.observability.langchain_callbacks import masked_config
from gems.observability.redaction import hide, redact, shorten
from gems.types import Usage

logger = logging.getLogger(__name__)

# Chat front ends stream what models say; what nodes are answered is no word of the conversation.
_UNHEARD: RunnableConfig = {"tags": [TAG_NOSTREAM]}


@dataclass(slots=True)
class _Known:
    """What was learned about an endpoint."""

    refused: set[str] = field(default_factory=set)
    max_pictures: int | None = None


class ChatClient:
    """One chat model behind one endpoint.

    Args:
        model: Any LangChain chat model.
        name: For messages and records, for example `qwen3-vl at http://host/v1`.
        limits: How to treat it.
        adaptable: Whether the model takes OpenAI's request parameters per call; other LangChain models are
            asked in plain text with the configuration they came with.
        extra_body: Further fields of each request's body.
        secrets: Texts that must never appear in messages.
        closing: Awaited by `aclose`, for example the HTTP client's own.
    """

    def __init__(
        self,
        model: BaseChatModel,
        *,
        name: str,
        limits: ChatLimits | None = None,
        adaptable: bool = False,
        extra_body: dict[str, Any] | None = None,
        secrets: tuple[str, ...] = (),
        closing: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.model = model
        self.name = name
        self.limits = limits or ChatLimits()
        self._extra_body = extra_body or {}
        self._secrets = secrets
        self._closing = closing
        self._adaptable = adaptable
        self._known = _Known(refused=set() if adaptable else set(FEATURES))
        self._places = Places(self.limits.concurrency)

    @property
    def structured_output(self) -> str:
        """How structured answers are asked for now: `json_schema`, `json_mode` or `text`."""
        return structured_mode(self._known.refused)

    @property
    def max_pictures(self) -> int | None:
        """How many images a request may carry, as far as was learned; None while no limit was met."""
        return self._known.max_pictures

    def price(self, input_tokens: int, output_tokens: int) -> float | None:
        """US dollars for so many tokens; None where a price is not known."""
        if self.limits.input_usd is None or self.limits.output_usd is None:
            return None
        return input_tokens * self.limits.input_usd + output_tokens * self.limits.output_usd

    async def ask(self, question: Question, on_usage: Callable[[Usage], None] | None = None) -> ChatReply:
        """Ask, and adapt the request to what the endpoint takes until it answers.

        Args:
            question: What to ask.
            on_usage: Told what each answer consumed, also those that could not be used.

        Raises:
            ConfigurationError: the key is not accepted, or the model cannot see images.
            ProviderError: no usable answer came.
        """
        spent = _Spent(on_usage)
        refused = set(self._known.refused)
        shown = self._known.max_pictures
        while True:
            try:
                reply = await self._with_retries(question, refused, shown, spent)
            except (RejectedRequestError, UnreadableReplyError) as error:
                fewer = fewer_pictures(error, len(question.pictures), shown)
                if fewer is not None:
                    shown = fewer
                    if isinstance(error, TooManyImagesError):
                        self._known.max_pictures = fewer
                    continue
                feature = next_to_leave_out(error, question, refused, self.limits)
                if feature is None:
                    raise
                logger.info("%s: trying without %s after: %s", self.name, feature, error.message)
                refused.add(feature)
            else:
                self._known.refused |= refused
                return replace(reply, usage=spent.usage)

    async def aclose(self) -> None:
        """Close what the model holds open. Calling it twice is harmless."""
        closing, self._closing = self._closing, None
        if closing is not None:
            await closing()

    async def _with_retries(
        self, question: Question, refused: set[str], shown: int | None, spent: _Spent
    ) -> ChatReply:
        def log(error: GemsError, seconds: float) -> None:
            logger.warning("%s Asking again in %.1f s.", error.message, seconds)

        return await with_retries(
            lambda: self._attempt(question, refused, shown, spent),
            attempts=self.limits.attempts,
            first_wait_s=self.limits.first_wait_s,
            on_retry=log,
        )

    async def _attempt(
        self, question: Question, refused: set[str], shown: int | None, spent: _Spent
    ) -> ChatReply:
        parameters = self._parameters(question, refused)
        pictures = question.pictures
        left_out = 0 if shown is None else max(0, len(pictures) - shown)
        sent = pictures[left_out:]
        discreet = masked_config([picture.image for picture in sent], self._secrets)
        config = _UNHEARD | (discreet or {})
        async with self._places.one():
            started = time.perf_counter()
            try:
                async with asyncio.timeout(self.limits.timeout_s):
                    # Put together now, since pictures in messages take room while others are waited for.
                    message = await self.model.ainvoke(question.messages(shown), config, **parameters)
            except Exception as error:
                raise translate(error, self.name, *self._secrets) from error
            finally:
                seconds = time.perf_counter() - started
        spent.add(self._usage(message, sent, seconds))
        one_token = question.max_tokens == 1
        return _reply(message, question.reply, self.name, self._secrets, one_token=one_token)

    def _parameters(self, question: Question, refused: set[str]) -> dict[str, Any]:
        """What is sent besides the messages, as far as the endpoint takes it."""
        parameters: dict[str, Any] = {}
        if not self._adaptable:
            return parameters
        temperature = self.limits.temperature if question.temperature is None else question.temperature
        if temperature is not None and "temperature" not in refused:
            parameters["temperature"] = temperature
        # langchain-openai turns a top-level `response_format` into another call with checks of its own;
        # in `extra_body` it goes to the server as it is.
        body = dict(self._extra_body)
        max_tokens = self.limits.max_tokens if question.max_tokens is None else question.max_tokens
        if max_tokens is not None:
            if "max_tokens" in refused:
                body["max_completion_tokens"] = max_tokens
            else:
                parameters["max_tokens"] = max_tokens
        if question.logprobs and self.limits.logprobs and "logprobs" not in refused:
            parameters |= {"logprobs": True, "top_logprobs": 20}
        if question.reply is not None and (mode := structured_mode(refused)) != "text":
            body["response_format"] = response_format(question.reply, mode)
        return parameters | ({"extra_body": body} if body else {})

    def _usage(self, message: AIMessage, pictures: tuple[Any, ...], seconds: float) -> Usage:
        tokens = message.usage_metadata
        counted = (tokens["input_tokens"], tokens["output_tokens"]) if tokens else (0, 0)
        return {
            "calls": 1,
            "input_tokens": counted[0],
            "output_tokens": counted[1],
            "images_sent": len(pictures),
            "image_bytes_sent": sum(len(picture.data) for picture in pictures),
            "seconds": seconds,
            "usd": self.price(*counted),
        }


class _Spent:
    """Adds up what all attempts at one question consumed; unreadable answers cost too."""

    def __init__(self, on_usage: Callable[[Usage], None] | None) -> None:
        self.usage: Usage = NOTHING
        self._on_usage = on_usage

    def add(self, usage: Usage) -> None:
        self.usage = added(self.usage, usage)
        if self._on_usage is not None:
            self._on_usage(usage)


def _reply(
    message: AIMessage,
    form: type[BaseModel] | None,
    name: str,
    secrets: tuple[str, ...],
    *,
    one_token: bool = False,
) -> ChatReply:
    """The answer in `message`, kept apart from its thought.

    Raises:
        RefusedError: the provider's filter stopped the answer.
        UnreadableReplyError: the answer is empty or not of the form asked for.
    """
    finish = message.response_metadata.get("finish_reason")
    refusal = message.additional_kwargs.get("refusal")
    if finish == "content_filter" or refusal:
        said = f": {shorten(redact(str(refusal), *secrets))}" if refusal else "."
        raise RefusedError(f"{name} refused to answer{said}")
    # An endpoint, or a proxy before it, that repeats the key in an answer would have it stored with the run.
    left_in, text = split_thought(hide(mended(str(message.text)), *secrets))
    kept = message.additional_kwargs.get("reasoning_content") or message.additional_kwargs.get("reasoning")
    told = message.response_metadata.get("logprobs")
    first = first_token(told)
    # A single token may be a blank, while the probabilities beside it are those of words.
    if not text and not (first and one_token):
        cut = " It was cut off: raise GEMS_CHAT__MAX_TOKENS." if finish == "length" else ""
        raise UnreadableReplyError(f"{name} sent an empty answer.{cut}")
    try:
        parsed = read_json(text, form) if form is not None else None
    except UnreadableReplyError as error:
        raise UnreadableReplyError(f"{name}: {redact(error.message, *secrets)}") from None
    return ChatReply(
        text=text,
        thought=hide(mended(str(kept or left_in)), *secrets),
        parsed=parsed,
        yes_probability=yes_probability(told),
        usage=NOTHING,
        first_token=first,
    )
