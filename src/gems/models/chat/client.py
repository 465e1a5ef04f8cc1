"""Client of a chat endpoint: limits, retries, streaming and fallbacks.

Which features a server supports is not configured: a refused one is left out, and not sent again for a while once a
request has succeeded without it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from functools import reduce
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessageChunk
from langchain_core.runnables import RunnableConfig
from langgraph.constants import TAG_NOSTREAM

from gems.errors import GemsError, RejectedRequestError, TruncatedReplyError, UnreadableReplyError
from gems.models.chat.capabilities import FEATURES, Capabilities, ChatLimits, response_format, structured_mode
from gems.models.chat.messages import ChatReply, Picture, Question
from gems.models.chat.probabilities import list_tokens
from gems.models.chat.reply import count_characters, estimate_tokens, read_reply
from gems.models.chat.request import Asking, Request
from gems.models.chat.schemas import TASK_ROLES
from gems.models.concurrency import AdaptiveLimiter
from gems.models.http import translate_error, with_retries
from gems.models.images import shrink_image
from gems.observability.langchain_callbacks import masked_config
from gems.types import NO_USAGE, Usage, add_usage

Adapt = Callable[[BaseChatModel, dict[str, Any]], tuple[BaseChatModel, dict[str, Any]]]

# Chat front ends stream model output; replies to nodes are not part of the conversation.
_NO_STREAM: RunnableConfig = {"tags": [TAG_NOSTREAM]}
_MOST_CHARACTERS = 200_000
"""Of a streamed reply and its reasoning: some 50,000 tokens, which only a model that repeats itself writes."""
_LONGEST = 20
"""Longest time of a streamed reply, in times of the longest silence: an hour by default."""
_START = 8
"""Requests at a time, before it is known how many the endpoint takes."""
_REMEMBERED_IDS = 20
_ALTERNATIVES = 20
"""Likely tokens that are asked for at each token of a plain answer."""
_ALTERNATIVES_IN_JSON = 5
"""The same of a reply in JSON, which is long: of 15 answers in 1,500 tokens, 20 alternatives take 3 MB."""
_MOST_TOKENS = 4_000
"""Last tokens of a reply in JSON whose alternatives are kept: the answer stands behind a thought that may be longer."""
_SAME_UNTIL = 2
"""The last attempt at which the judge's temperature is 0; a later repetition has to be able to differ."""


class ChatClient:
    """One LangChain chat model behind one endpoint, e.g. `qwen3-vl at http://host/v1`.

    `adapt` makes of OpenAI's parameters of one request the model and the arguments of its call; without it the model
    is asked for plain text and keeps its own configuration. `lacking` are features that the endpoint is known not to
    have. `extra_body` is added to each request's body, `secrets` are redacted from messages, `closing` is awaited by
    `aclose`.

    Attributes:
        is_remote: Whether the name stands for a model at an endpoint, of which can be remembered what it does.
        has_answered: Whether it has answered a question of this process.
    """

    def __init__(
        self,
        model: BaseChatModel,
        *,
        name: str,
        limits: ChatLimits | None = None,
        adapt: Adapt | None = None,
        lacking: Iterable[str] = (),
        extra_body: dict[str, Any] | None = None,
        secrets: tuple[str, ...] = (),
        closing: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.model = model
        self.name = name
        self.is_remote = adapt is not None
        self.has_answered = False
        self.limits = limits or ChatLimits()
        self._adapt = adapt
        self.capabilities = Capabilities(set(FEATURES) - {"parts", "system"} if adapt is None else lacking)
        self._extra_body = extra_body or {}
        self._secrets = secrets
        self._closing = closing
        self._limiter = AdaptiveLimiter(self.limits.concurrency, _START, self.limits.timeout_s)

    @property
    def structured_output(self) -> str:
        """Current mode for structured replies: `json_schema`, `json_mode` or `text`."""
        return structured_mode(self.capabilities.lacking)

    def price(self, input_tokens: int, output_tokens: int) -> float | None:
        """Return the price in US dollars; None if unknown."""
        if self.limits.input_usd is None or self.limits.output_usd is None:
            return None
        return input_tokens * self.limits.input_usd + output_tokens * self.limits.output_usd

    async def ask(
        self, question: Question, on_usage: Callable[[Usage], None] | None = None, attempts: int | None = None
    ) -> ChatReply:
        """Ask, adapting the request to what the endpoint supports until it replies.

        At most three requests are sent for one answer, apart from those that a rate limit turns away. `on_usage`
        receives the usage of each reply, also of invalid ones, as wasted; `attempts` replaces that of the limits.
        Raises `ConfigurationError` if the key is rejected or the model accepts no images, and `ProviderError` if there
        is no valid reply.
        """
        spent: list[Usage] = []

        def record(usage: Usage) -> None:
            spent.append(usage)
            if on_usage is not None:
                on_usage(usage)

        limits = self.limits if attempts is None else replace(self.limits, attempts=attempts)
        asking = Asking(question, limits, self.capabilities)

        async def attempt() -> ChatReply:
            return await self._attempt(question, asking.request, record)

        reply = await with_retries(attempt, attempts=None, first_wait_s=self.limits.first_wait_s, retries=asking.go_on)
        asking.succeed()
        return replace(reply, usage=reduce(add_usage, spent, NO_USAGE))

    async def aclose(self) -> None:
        """Close the model's connections. Idempotent."""
        closing, self._closing = self._closing, None
        if closing is not None:
            await closing()

    async def _attempt(self, question: Question, request: Request, record: Callable[[Usage], None]) -> ChatReply:
        model, parameters = self.model, self._parameters(question, request)
        if self._adapt is not None:
            model, parameters = self._adapt(model, parameters)
        sent = question.last_pictures(request.pictures)
        masked = masked_config([picture.image for picture in sent], self._secrets)
        config = _NO_STREAM | (masked or {})
        async with self._limiter.slot(question.task):
            started = time.perf_counter()
            parts: list[BaseMessageChunk] = []
            try:
                # Built only now: encoded images would take up memory while waiting for a slot.
                shown = await asyncio.to_thread(_shrink, question, request)
                messages = shown.messages(
                    request.pictures,
                    with_system="system" not in request.lacking,
                    in_parts="parts" not in request.lacking,
                )
                if "stream" in request.lacking:
                    async with asyncio.timeout(self.limits.timeout_s):
                        message = await model.ainvoke(messages, config, **parameters)
                else:
                    stream = model.astream(messages, config, **parameters)
                    message = await self._receive(stream, parts, None if question.reply is None else _MOST_TOKENS)
            except BaseException as error:
                if parts:
                    # What was received is paid for.
                    record(_as_wasted(self._usage(_join(parts), sent, time.perf_counter() - started)))
                if not isinstance(error, Exception):
                    raise
                raise translate_error(error, self.name, *self._secrets) from error
            seconds = time.perf_counter() - started
        self.capabilities.note_server(message.response_metadata.get("system_fingerprint"))
        usage = self._usage(message, sent, seconds)
        is_streamed = "stream" not in request.lacking
        try:
            # Long replies take long to read.
            reply = await asyncio.to_thread(
                read_reply, message, question, self.name, self._secrets, is_streamed=is_streamed
            )
        except GemsError:
            record(_as_wasted(usage))
            raise
        record(usage)
        self.has_answered = True
        return reply

    async def _receive(self, stream: Any, parts: list[BaseMessageChunk], most_tokens: int | None) -> AIMessage:
        """Collect a streamed reply in `parts`; TimeoutError after a silence that is too long.

        Of its log probabilities the last `most_tokens` are kept; all for None.
        """
        length, now = 0, asyncio.get_running_loop().time
        last = now() + _LONGEST * self.limits.timeout_s
        silent_until = now() + self.limits.timeout_s
        completions: list[Any] = []
        tokens: deque[Any] = deque(maxlen=most_tokens)
        counted: Any = None
        try:
            while True:
                try:
                    async with asyncio.timeout_at(min(silent_until, last)):
                        part = await anext(stream, None)
                except ValueError as error:
                    if parts:
                        raise
                    # LangChain's word for an answer that is no stream, as of servers that do not know `stream`.
                    raise RejectedRequestError(f"{self.name} sent no stream.", refused="stream") from error
                if part is None:
                    break
                _check_completion(part.response_metadata.pop("completion_id", None), completions, self.name)
                if part.response_metadata.pop("usage_so_far", False):
                    # Some servers send with each part what the whole answer has cost so far.
                    if counted is not None:
                        counted.usage_metadata = None
                    counted = part
                # LangChain would copy all earlier ones with each part.
                tokens.extend(list_tokens(part.response_metadata.pop("logprobs", None)))
                parts.append(part)
                if said := count_characters(part):
                    # What says nothing does not end the silence.
                    length, silent_until = length + said, now() + self.limits.timeout_s
                if length > _MOST_CHARACTERS:
                    raise TruncatedReplyError(f"{self.name} was cut off after {_MOST_CHARACTERS:,} characters.")
        finally:
            await stream.aclose()
        message = await asyncio.to_thread(_join, parts)
        if tokens:
            message.response_metadata["logprobs"] = {"content": list(tokens)}
        return message

    def _parameters(self, question: Question, request: Request) -> dict[str, Any]:
        """Return the request parameters that the endpoint supports."""
        if self._adapt is None:
            return {}
        parameters: dict[str, Any] = {}
        temperature = self.limits.temperature if question.temperature is None else question.temperature
        if temperature is None and TASK_ROLES[question.task] == "judge" and question.attempt <= _SAME_UNTIL:
            temperature = 0.0
        if temperature is not None and "temperature" not in request.lacking:
            parameters["temperature"] = temperature
        # langchain-openai handles a top-level `response_format` itself; `extra_body` is sent unchanged.
        body = dict(self._extra_body)
        asked = self.limits.max_tokens if question.max_tokens is None else question.max_tokens
        max_tokens = asked if request.max_tokens is None else request.max_tokens
        if max_tokens is not None:
            if "max_tokens" in request.lacking:
                body["max_completion_tokens"] = max_tokens
            else:
                parameters["max_tokens"] = max_tokens
        if "stream" not in request.lacking:
            parameters["stream_usage"] = "stream_usage" not in request.lacking
        if question.logprobs and self.limits.logprobs and "logprobs" not in request.lacking:
            most = _ALTERNATIVES if question.reply is None else _ALTERNATIVES_IN_JSON
            parameters |= {"logprobs": True, "top_logprobs": most}
        if question.reply is not None and (mode := structured_mode(request.lacking)) != "text":
            body["response_format"] = response_format(
                question.reply,
                mode,
                limits="limits" not in request.lacking,
                limits_texts=self.capabilities.limits_texts,
            )
        return parameters | ({"extra_body": body} if body else {})

    def _usage(self, message: AIMessage, pictures: tuple[Any, ...], seconds: float) -> Usage:
        tokens = message.usage_metadata
        # A reply that broke off has no usage of its own.
        received, made = (tokens["input_tokens"], tokens["output_tokens"]) if tokens else (0, estimate_tokens(message))
        return NO_USAGE | {
            "calls": 1,
            "input_tokens": received,
            "output_tokens": made,
            "images_sent": len(pictures),
            "image_bytes_sent": sum(len(picture.data) for picture in pictures),
            "seconds": seconds,
            "usd": self.price(received, made),
        }


def _as_wasted(usage: Usage) -> Usage:
    """Return the usage of a reply that is of no use."""
    return usage | {"wasted_calls": usage["calls"], "wasted_tokens": usage["input_tokens"] + usage["output_tokens"]}


def _join(parts: list[BaseMessageChunk]) -> AIMessage:
    first, *others = parts
    joined = first + others if others else first
    if not isinstance(joined, AIMessageChunk):
        raise TypeError(f"The stream holds a {type(joined).__name__}.")
    return joined


def _check_completion(completion: Any, seen: list[Any], name: str) -> None:
    """Raise `UnreadableReplyError` where a stream goes back to an earlier id: two replies are mixed in it.

    Some servers give each part an id of its own.
    """
    if not completion or (seen and seen[-1] == completion):
        return
    if completion in seen[-_REMEMBERED_IDS:]:
        raise UnreadableReplyError(f"{name} mixed the answers to two requests in one stream.")
    seen.append(completion)


def _shrink(question: Question, request: Request) -> Question:
    """Halve the sides of the question's images as often as the request says. Blocking."""
    if not request.shrunk:
        return question
    parts = [
        replace(part, data=shrink_image(part.data, request.shrunk), media_type="image/jpeg")
        if isinstance(part, Picture)
        else part
        for part in question.parts
    ]
    return replace(question, parts=tuple(parts))
