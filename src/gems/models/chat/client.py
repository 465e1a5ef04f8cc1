"""Client of a chat endpoint: limits, retries and fallbacks.

Which features a server supports is not configured: a rejected one is left out, and once a request has
succeeded without it, the client never sends it again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial, reduce
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.constants import TAG_NOSTREAM
from pydantic import BaseModel

from gems.errors import GemsError, RefusedError, RejectedRequestError, TooManyImagesError, UnreadableReplyError
from gems.models.chat.capabilities import (
    FEATURES,
    ChatLimits,
    find_feature_to_drop,
    reduce_pictures,
    response_format,
    structured_mode,
)
from gems.models.chat.messages import ChatReply, Question
from gems.models.chat.parsing import first_token, read_json, replace_surrogates, split_thought, yes_probability
from gems.models.concurrency import AdaptiveLimiter
from gems.models.http import translate_error, with_retries
from gems.observability.langchain_callbacks import masked_config
from gems.observability.redaction import hide, redact, shorten
from gems.types import NO_USAGE, Usage, add_usage

logger = logging.getLogger(__name__)

# Chat front ends stream model output; replies to nodes are not part of the conversation.
_NO_STREAM: RunnableConfig = {"tags": [TAG_NOSTREAM]}


class ChatClient:
    """One LangChain chat model behind one endpoint, e.g. `qwen3-vl at http://host/v1`.

    `adaptable` models accept OpenAI's request parameters per call; others are asked for plain text and keep
    their own configuration. `extra_body` is added to each request's body, `secrets` are redacted from
    messages, `closing` is awaited by `aclose`. `max_pictures` is the most images per request, as far as
    learned; None if no limit is known.
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
        self._refused = set() if adaptable else set(FEATURES)
        self.max_pictures: int | None = None
        self._limiter = AdaptiveLimiter(self.limits.concurrency)

    @property
    def structured_output(self) -> str:
        """Current mode for structured replies: `json_schema`, `json_mode` or `text`."""
        return structured_mode(self._refused)

    def price(self, input_tokens: int, output_tokens: int) -> float | None:
        """Return the price in US dollars; None if unknown."""
        if self.limits.input_usd is None or self.limits.output_usd is None:
            return None
        return input_tokens * self.limits.input_usd + output_tokens * self.limits.output_usd

    async def ask(self, question: Question, on_usage: Callable[[Usage], None] | None = None) -> ChatReply:
        """Ask, adapting the request to what the endpoint supports until it replies.

        `on_usage` receives the usage of each reply, also of invalid ones. Raises `ConfigurationError` if the
        key is rejected or the model accepts no images, and `ProviderError` if there is no valid reply.
        """
        spent: list[Usage] = []

        def record(usage: Usage) -> None:
            spent.append(usage)
            if on_usage is not None:
                on_usage(usage)

        refused, shown = set(self._refused), self.max_pictures
        while True:
            try:
                reply = await with_retries(
                    partial(self._attempt, question, refused, shown, record),
                    attempts=self.limits.attempts,
                    first_wait_s=self.limits.first_wait_s,
                    on_retry=_log_retry,
                )
            except (RejectedRequestError, UnreadableReplyError) as error:
                fewer = reduce_pictures(error, len(question.pictures), shown)
                if fewer is not None:
                    shown = fewer
                    if isinstance(error, TooManyImagesError):
                        self.max_pictures = fewer
                    continue
                feature = find_feature_to_drop(error, question, refused, self.limits)
                if feature is None:
                    raise
                logger.info("%s: retrying without %s after: %s", self.name, feature, error.message)
                refused.add(feature)
            else:
                self._refused |= refused
                return replace(reply, usage=reduce(add_usage, spent, NO_USAGE))

    async def aclose(self) -> None:
        """Close the model's connections. Idempotent."""
        closing, self._closing = self._closing, None
        if closing is not None:
            await closing()

    async def _attempt(
        self, question: Question, refused: set[str], shown: int | None, record: Callable[[Usage], None]
    ) -> ChatReply:
        parameters = self._parameters(question, refused)
        sent = question.last_pictures(shown)
        masked = masked_config([picture.image for picture in sent], self._secrets)
        config = _NO_STREAM | (masked or {})
        async with self._limiter.slot():
            started = time.perf_counter()
            try:
                async with asyncio.timeout(self.limits.timeout_s):
                    # Built only now: encoded images would take up memory while waiting for a slot.
                    message = await self.model.ainvoke(question.messages(shown), config, **parameters)
            except Exception as error:
                raise translate_error(error, self.name, *self._secrets) from error
            finally:
                seconds = time.perf_counter() - started
        record(self._usage(message, sent, seconds))
        one_token = question.max_tokens == 1
        return _parse_reply(message, question.reply, self.name, self._secrets, one_token=one_token)

    def _parameters(self, question: Question, refused: set[str]) -> dict[str, Any]:
        """Return the request parameters that the endpoint supports."""
        if not self._adaptable:
            return {}
        parameters: dict[str, Any] = {}
        temperature = self.limits.temperature if question.temperature is None else question.temperature
        if temperature is not None and "temperature" not in refused:
            parameters["temperature"] = temperature
        # langchain-openai handles a top-level `response_format` itself; `extra_body` is sent unchanged.
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
        received, written = (tokens["input_tokens"], tokens["output_tokens"]) if tokens else (0, 0)
        return {
            "calls": 1,
            "input_tokens": received,
            "output_tokens": written,
            "images_sent": len(pictures),
            "image_bytes_sent": sum(len(picture.data) for picture in pictures),
            "seconds": seconds,
            "usd": self.price(received, written),
        }


def _log_retry(error: GemsError, seconds: float) -> None:
    logger.warning("%s Retrying in %.1f s.", error.message, seconds)


def _parse_reply(
    message: AIMessage, form: type[BaseModel] | None, name: str, secrets: tuple[str, ...], *, one_token: bool = False
) -> ChatReply:
    """Separate the reply in `message` from its reasoning; raise `RefusedError` or `UnreadableReplyError`."""
    finish = message.response_metadata.get("finish_reason")
    refusal = message.additional_kwargs.get("refusal")
    if finish == "content_filter" or refusal:
        reason = f": {shorten(redact(str(refusal), *secrets))}" if refusal else "."
        raise RefusedError(f"{name} refused to answer{reason}")
    # If the endpoint or a proxy repeats the key in a reply, it must not be stored with the run.
    inline_thought, text = split_thought(hide(replace_surrogates(str(message.text)), *secrets))
    thought = message.additional_kwargs.get("reasoning_content") or message.additional_kwargs.get("reasoning")
    logprobs = message.response_metadata.get("logprobs")
    first = first_token(logprobs)
    # A single token may be blank although its alternatives are words.
    if not text and not (first and one_token):
        cut = " It was truncated: increase GEMS_CHAT__MAX_TOKENS." if finish == "length" else ""
        raise UnreadableReplyError(f"{name} sent an empty reply.{cut}")
    try:
        parsed = read_json(text, form) if form is not None else None
    except UnreadableReplyError as error:
        raise UnreadableReplyError(f"{name}: {redact(error.message, *secrets)}") from None
    return ChatReply(
        text=text,
        thought=hide(replace_surrogates(str(thought or inline_thought)), *secrets),
        parsed=parsed,
        yes_probability=yes_probability(logprobs),
        usage=NO_USAGE,
        first_token=first,
    )
