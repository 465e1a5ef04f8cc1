"""HTTP clients of models: their errors, retries, size limits and keep-alive."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.request import getproxies, proxy_bypass

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, stop_never
from tenacity.wait import wait_exponential, wait_random

from gems.errors import (
    AuthenticationError,
    BlindModelError,
    ContextExceededError,
    GemsError,
    ModelUnavailableError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitError,
    RefusedError,
    RejectedRequestError,
    ServerError,
    TooManyImagesError,
    TruncatedReplyError,
    UnreachableError,
    UnreadableReplyError,
)
from gems.models.refusals import Refusal, clean_message, find_refusal, find_refusal_in_reply
from gems.observability.redaction import display_url, redact, scrub, shorten

if TYPE_CHECKING:
    from ssl import SSLContext

    import httpx

logger = logging.getLogger(__name__)

T = TypeVar("T")

_TELLING = (401, 403, 404, 408, 429)
"""Statuses that say what is wrong, unless the words are unmistakable."""
_TIMEOUTS = frozenset({"TimeoutError", "TimeoutException", "APITimeoutError", "ModelTimeoutError"})
_CONNECTIONS = frozenset(
    {"TransportError", "APIConnectionError", "ClientConnectionError", "ConnectionError", "ModelConnectionError"}
)
_MOST_CAUSES = 5
_RETRY_INFO = re.compile(r'"retryDelay":\s*"(\d+(?:\.\d+)?)s"')
"""Where Google's APIs say how long to wait."""
_MAX_WAIT_S = 60.0
_KEEP_ALIVE_S = 30.0
_LOOPBACK = ("all://localhost", "all://127.0.0.1", "all://[::1]")
MAX_CHAT_BYTES = 2 * 2**20
"""Largest response of a chat model; objects built from a larger one would hold up the event loop."""
MAX_STREAM_BYTES = 64 * 2**20
"""Largest streamed response of a chat model, whose every token is an event of some hundred bytes."""
MAX_EVENTS = 200_000
"""Most events of a streamed response, comments and empty ones included."""
_STREAMS = {"text/event-stream": re.compile(rb"\r\n\r\n|\n\n|\r\r"), "application/x-ndjson": re.compile(rb"\n")}
"""What ends an event."""
_MOST_VALUES = 100_000
"""Of JSON in one response of a chat model: the libraries take several microseconds for each."""
_MOST_VALUES_OF_EVENT = 20_000
_PARTS_IN_A_ROW = 8
"""Of a response, of 64 KiB at most, that are read before other tasks have a turn."""
_NO_CHOICES = re.compile(rb"\"choices\"\s*:\s*\[\s*[^\s{\]]")
"""An event whose choices are no objects: pydantic writes a warning about each of them."""
MAX_EMBEDDING_BYTES = 32 * 2**20
"""Largest response of an embedder."""
MAX_IMAGE_BYTES = 256 * 2**20
"""Largest response of an image server: above the raw pixels of the largest accepted image."""
# A compressed body can expand a thousandfold.
UNCOMPRESSED = {"Accept-Encoding": "identity"}
"""Headers of a client with `max_response_size`: compressed responses are rejected."""


def error_from_status(
    status: int, body: str, endpoint: str, *secrets: str, retry_after: float | None = None
) -> GemsError:
    """Return the error for an HTTP response of `status` (300 to 599) with `body` from `endpoint`."""
    refusal = find_refusal(body)
    if retry_after is None and (delay := _RETRY_INFO.search(body)):
        retry_after = float(delay[1])
    message = shorten(redact(clean_message(body, with_codes=False), *secrets))
    what = f"{endpoint} answered {status}: {message}" if message else f"{endpoint} answered {status}."
    if refusal is not None and not (refusal.is_vague and status in _TELLING):
        return _error_of_refusal(refusal, what, retry_after)
    if status in (401, 403):
        return AuthenticationError(what)
    if status == 404:
        return ModelUnavailableError(what, hint="Check the model's name and the base URL, which usually ends in /v1.")
    if status == 408:
        return ProviderTimeoutError(what)
    if status == 429:
        return RateLimitError(what, retry_after=retry_after)
    if status < 400:
        return RejectedRequestError(what, refused="redirect")
    return ServerError(what, retry_after=retry_after) if status >= 500 else RejectedRequestError(what)


def _error_of_refusal(refusal: Refusal, what: str, retry_after: float | None) -> GemsError:
    match refusal.kind:
        case "quota":
            return ModelUnavailableError(what, hint="The account's quota is used up; waiting does not help.")
        case "policy":
            return RefusedError(what)
        case "key":
            return AuthenticationError(what)
        case "rate" | "overload":
            return (RateLimitError if refusal.kind == "rate" else ServerError)(what, retry_after=retry_after)
        case "no_images":
            return BlindModelError(what)
        case "image_count":
            return TooManyImagesError(what, limit=refusal.most)
        case "context" | "sum_too_long":
            return ContextExceededError(what, refused=refusal.kind)
        case _:
            return RejectedRequestError(what, refused=refusal.kind)


def error_in_reply(reply: Any, endpoint: str, *secrets: str) -> GemsError | None:
    """Return the error in a JSON answer of status 200 without what was asked for; None if it names none."""
    refusal = find_refusal_in_reply(reply)
    if refusal is None:
        return None
    message = shorten(redact(clean_message(json.dumps(reply)), *secrets))
    return _error_of_refusal(refusal, f"{endpoint} refused: {message}", None)


def error_from_response(response: Any, endpoint: str, *secrets: str) -> GemsError:
    """Return the error for a response of httpx, or of the httpx inside openai."""
    wait, endpoint = parse_retry_after(response.headers), f"{endpoint}{_find_proxy(response)}"
    return error_from_status(response.status_code, response.text, endpoint, *secrets, retry_after=wait)


def translate_error(error: Exception, endpoint: str, *secrets: str) -> GemsError:
    """Return the GEMS error for an exception of a provider's library, without `secrets`; keep GEMS errors."""
    # The libraries wrap errors of our own event hooks, and those of each other.
    chain = list(_causes_of(error))
    if (ours := next((one for one in chain if isinstance(one, GemsError)), None)) is not None:
        return ours
    # By their names: httpx, httpx2, aiohttp, openai, anthropic and LangChain have classes of their own.
    names = {name for one in chain for name in _names_of(one)}
    message = shorten(redact(str(error), *secrets))
    # The error stays chained to ours and appears in tracebacks.
    scrub(error, *secrets)
    if (failed := next((one for one in chain if _status_of(one) is not None), None)) is not None:
        return _error_of_library(failed, endpoint, *secrets)
    if names & _TIMEOUTS:
        return ProviderTimeoutError(f"{endpoint} did not answer in time.")
    if names & {"InvalidURL", "UnsupportedProtocol"}:
        return RejectedRequestError(f"{endpoint} has an invalid URL: {message}")
    if names & _CONNECTIONS:
        # What httpx says, which other libraries call a connection error.
        cause = next((one for one in chain if "TransportError" in _names_of(one)), error.__cause__ or error)
        # A connection reset has no message.
        message = shorten(redact(str(cause), *secrets)) or type(cause).__name__
        return UnreachableError(f"{endpoint} could not be reached{_find_proxy(error)}: {message}")
    if "ContentFilterFinishReasonError" in names:
        return RefusedError(f"{endpoint} refused the content.")
    if "OpenAIError" in names or isinstance(
        error, LookupError | TypeError | ValueError | AttributeError | RecursionError
    ):
        # langchain-openai raises these for bodies that are not chat completions.
        kind = type(error).__name__
        return UnreadableReplyError(f"{endpoint} sent an invalid response: {kind}: {message}")
    return ProviderError(f"{endpoint} failed: {type(error).__name__}: {message}")


def _names_of(error: BaseException) -> list[str]:
    return [kind.__name__ for kind in type(error).__mro__]


def _causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was explicitly raised from."""
    cause: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__


def _status_of(error: BaseException) -> int | None:
    """Return the HTTP status in a library's error; at most 200 if the answer broke off; None without one."""
    for name in ("status_code", "code"):
        status = getattr(error, name, None)
        # google-genai's attribute is `code`, which means something else elsewhere.
        if type(status) is int and status < 600 and (name == "status_code" or status >= 300):
            return status
    # openai's error for what is told within a stream.
    if type(error).__name__ == "APIError":
        return _status_in(getattr(error, "body", None))
    return _status_in(told) if (told := _told_in_answer(error)) else None


def _told_in_answer(error: BaseException) -> Any:
    """Return the error object that langchain-openai found in a whole answer of status 200."""
    return error.args[0] if type(error) is ValueError and error.args and isinstance(error.args[0], dict) else None


def _error_of_library(error: BaseException, endpoint: str, *secrets: str) -> GemsError:
    status, body, response = _status_of(error) or 0, _body_of(error), getattr(error, "response", None)
    wait = parse_retry_after(getattr(response, "headers", None) or {})
    endpoint = f"{endpoint}{_find_proxy(response)}"
    if status >= 300:
        return error_from_status(status, body, endpoint, *secrets, retry_after=wait)
    # Anthropic and Ollama tell what goes wrong later within the answer.
    message = shorten(redact(clean_message(body, with_codes=False), *secrets))
    what = f"{endpoint} failed within its answer: {message}"
    refusal = find_refusal(body)
    return ServerError(what) if refusal is None else _error_of_refusal(refusal, what, wait)


def _find_proxy(answer: Any) -> str:
    """Return the words for the environment's proxy by which the request of an error or a response was sent, or none."""
    try:
        url = answer.request.url
    except (AttributeError, RuntimeError):
        # httpx raises the latter where no request is known.
        return ""
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if proxy is None or any(url.host in pattern for pattern in _LOOPBACK) or proxy_bypass(url.host):
        return ""
    return f" through the proxy {display_url(proxy)}"


def _status_in(body: Any) -> int:
    """Return the HTTP status that an error's body names; 500 for none."""
    named = [str(body.get(key)) for key in ("code", "status_code", "status")] if isinstance(body, dict) else []
    return next((int(code) for code in named if code.isdecimal() and 400 <= int(code) < 600), 500)


def _body_of(error: BaseException) -> str:
    """Return what a provider's library keeps of an error's body."""
    response = getattr(error, "response", None)
    kept = [_told_in_answer(error), *(getattr(error, name, None) for name in ("body", "details", "error"))]
    text = getattr(response, "text", None) if getattr(response, "status_code", 0) >= 300 else None
    body = next((value for value in kept if value and isinstance(value, dict | str)), str(error))
    return text if isinstance(text, str) and text else body if isinstance(body, str) else json.dumps(body)


def parse_retry_after(headers: Any) -> float | None:
    """Return the seconds to wait before the next request; None if the headers do not say."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit)
        except (KeyError, ValueError):
            continue
    return None


async def with_retries(
    call: Callable[[], Awaitable[T]],
    *,
    attempts: int | None = 4,
    first_wait_s: float = 0.5,
    retries: Callable[[BaseException], bool] | None = None,
) -> T:
    """Await `call()` up to `attempts` times (at least 1; None for no limit) while it raises a retryable `GemsError`.

    Waits grow exponentially with jitter from `first_wait_s`. An endpoint's Retry-After is honoured up to one
    minute; a longer one raises the error at once. `retries` decides instead of the error's class whether to go on;
    after an error that is not retryable nothing is waited. Each retry is logged as a warning.
    """
    backoff = wait_exponential(multiplier=first_wait_s, max=20.0) + wait_random(0, first_wait_s)

    def get_error(state: RetryCallState) -> BaseException | None:
        return state.outcome.exception() if state.outcome is not None else None

    def wait(state: RetryCallState) -> float:
        error = get_error(state)
        if error is not None and not is_retryable(error):
            return 0.0
        asked = getattr(error, "retry_after", None)
        return float(backoff(state)) if asked is None else asked

    def before_sleep(state: RetryCallState) -> None:
        if isinstance(error := get_error(state), GemsError):
            logger.warning("%s Retrying in %.1f s.", error.message, state.upcoming_sleep)

    retrying = AsyncRetrying(
        retry=retry_if_exception(retries or is_retryable),
        wait=wait,
        stop=stop_never if attempts is None else stop_after_attempt(attempts),
        before_sleep=before_sleep,
        reraise=True,
    )

    async def attempt() -> T:
        # tenacity awaits coroutine functions only; a lambda is none.
        return await call()

    return await retrying(attempt)


def is_retryable(error: BaseException) -> bool:
    """Return whether the same request may succeed if it is sent again."""
    return isinstance(error, ProviderError) and error.retryable and (error.retry_after or 0.0) <= _MAX_WAIT_S


def make_client_options(limits: Any, timeout_s: float, most: int) -> dict[str, Any]:
    """Return arguments of an `httpx.AsyncClient` that keeps connections alive, with HTTP/2 where offered.

    `limits` is the library's class `Limits`: openai ships an httpx of its own under another name.
    `gems.models.concurrency` limits requests: waiting for a free connection would count as the model's time.
    httpx closes idle connections after 5 s, which is less than the time to generate an image.
    """
    kept = limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=_KEEP_ALIVE_S)
    tls = _tls_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    # A proxy of the environment could not reach this machine's own servers.
    direct: dict[str, Any] = dict.fromkeys(_LOOPBACK)
    options = {
        "mounts": direct,
        "http2": True,
        "limits": kept,
        "timeout": timeout_s,
        "headers": UNCOMPRESSED,
        "verify": tls,
    }
    return options | {"event_hooks": max_response_size(most)}


@cache
def _tls_context(*_certificates: str | None) -> SSLContext:
    """Return one context for all clients, since loading the certificates takes 30 ms."""
    import httpx  # noqa: PLC0415

    return httpx.create_ssl_context()


def max_response_size(most: int) -> dict[str, list[Callable[..., Awaitable[Any]]]]:
    """Return event hooks of an `httpx.AsyncClient` that reject longer and compressed responses.

    Of a stream each event has this limit, and the whole `MAX_STREAM_BYTES` and `MAX_EVENTS`.
    """

    async def limit(response: httpx.Response) -> None:
        server = f"The server at {response.request.url.host}"
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", ""):
            raise UnreadableReplyError(f"{server} sent a compressed response ({encoding[:40]}) without being asked.")
        response.stream = _limit_stream(response, most, server)

    return {"response": [limit]}


def _limit_stream(response: Any, most: int, server: str) -> Any:
    """Return the response's stream, which raises once it is too long, and whose parts leave time for other tasks."""
    stream = response.stream
    media_type = response.headers.get("content-type", "").strip().lower()
    ending = next((end for kind, end in _STREAMS.items() if media_type.startswith(kind)), None)
    # The library that made the response: openai ships an httpx of its own under another name.
    library = sys.modules[type(response).__module__.partition(".")[0]]

    class LimitedStream(library.AsyncByteStream):  # type: ignore[misc, name-defined]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            if ending is not None:
                async for event in _split_events(stream, ending, most, server):
                    yield event
                return
            received = values = parts = 0
            async for part in stream:
                received += len(part)
                values += _count_values(part) if most == MAX_CHAT_BYTES else 0
                if received > most:
                    raise UnreadableReplyError(f"{server} sent more than {most:,} bytes.")
                if values > _MOST_VALUES:
                    raise UnreadableReplyError(f"{server} sent more than {_MOST_VALUES:,} values in one response.")
                yield part
                parts += 1
                if parts % _PARTS_IN_A_ROW == 0:
                    # What has already been received is read without a pause.
                    await asyncio.sleep(0)

        async def aclose(self) -> None:
            await stream.aclose()

    return LimitedStream()


async def _split_events(stream: Any, ending: re.Pattern[bytes], most: int, server: str) -> AsyncIterator[bytes]:
    """Yield the events of a stream one by one, so that other tasks run between them."""
    received = events = 0
    rest = bytearray()
    async for part in stream:
        received += len(part)
        looked_at = max(0, len(rest) - 3)
        rest += part
        start = 0
        while (end := ending.search(rest, max(start, looked_at))) is not None:
            event, start, events = bytes(rest[start : end.end()]), end.end(), events + 1
            if received > MAX_STREAM_BYTES or events > MAX_EVENTS:
                raise TruncatedReplyError(
                    f"{server} did not end its stream: {events:,} events, {received:,} bytes.",
                    hint="A model that repeats itself, or a server that does not stop, writes without end: restart "
                    "it, or use another model.",
                )
            if _count_values(event) > _MOST_VALUES_OF_EVENT or _NO_CHOICES.search(event):
                raise UnreadableReplyError(f"{server} sent an event that is no part of an answer: {event[:80]!r}.")
            yield event
            await asyncio.sleep(0)
        del rest[:start]
        if len(rest) > most:
            raise UnreadableReplyError(f"{server} sent more than {most:,} bytes in one event.")
        await asyncio.sleep(0)
    yield bytes(rest)


def _count_values(text: bytes) -> int:
    """Return an upper bound of the values in a part of JSON."""
    return text.count(b"[") + text.count(b"{") + text.count(b",")
