"""The edge to HTTP endpoints: their errors in our words, and the one place that retries.

Retries sit on the innermost call only: a retry further out would pay for finished work again.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_exponential, wait_random

from gems.errors import (
    AuthenticationError,
    GemsError,
    ModelUnavailableError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitError,
    RefusedError,
    RejectedRequestError,
    ServerError,
    TooManyImagesError,
    UnreachableError,
    UnreadableReplyError,
)
from gems.observability.redaction import redact, scrub, shorten

T = TypeVar("T")

_TOO_MANY_IMAGES = re.compile(
    r"(?i)(?:at most|maximum(?: of)?|up to|limit(?: is| of)?|no more than|only)\s+(\d+)\s+image"
    r"|(?:too many|number of|more than|exceed\w*)[^.]{0,40}\bimages\b"
)
_REFUSALS = (
    "content_policy",
    "content_filter",
    "moderation_blocked",
    "safety system",
    "safety_violation",
    "responsibleai",
)
_MAX_WAIT_S = 60.0


def from_status(
    status: int, body: str, endpoint: str, *secrets: str, retry_after: float | None = None
) -> GemsError:
    """The error for an HTTP answer of `status` (300 to 599) with `body` from `endpoint`."""
    said = shorten(redact(_readable(body), *secrets))
    what = f"{endpoint} answered {status}: {said}" if said else f"{endpoint} answered {status}."
    if status in (401, 403):
        return AuthenticationError(what)
    if hint := _unavailable(status, body):
        return ModelUnavailableError(what, hint=hint)
    if status == 408:
        return ProviderTimeoutError(what)
    if status == 429:
        return RateLimitError(what, retry_after=retry_after)
    if status >= 500:
        return ServerError(what, retry_after=retry_after)
    if any(mark in body.lower() for mark in _REFUSALS):
        return RefusedError(what)
    if (found := _TOO_MANY_IMAGES.search(body)) and status in (400, 413, 422):
        return TooManyImagesError(what, limit=int(found.group(1)[:9]) if found.group(1) else None)
    return RejectedRequestError(what)


def _unavailable(status: int, body: str) -> str:
    """What to do where no rewording and no waiting gets an answer from the model; empty elsewhere."""
    if status == 404:
        return "Check the model's name and the base URL, which usually ends in /v1."
    out_of_quota = status == 429 and "insufficient_quota" in body
    return "The account's quota is used up; waiting does not help." if out_of_quota else ""


def translate(error: Exception, endpoint: str, *secrets: str) -> GemsError:
    """Our error for what the `openai` or `httpx` library raised; GEMS errors stay as they are.

    Args:
        error: What was raised.
        endpoint: Name of the endpoint for the message, for example `qwen3 at http://host/v1`.
        secrets: Texts that must not appear in the message.
    """
    # Both libraries are loaded wherever such an error can occur; importing them here costs nothing then.
    import httpx  # noqa: PLC0415
    import openai  # noqa: PLC0415

    # A hook of ours within the library may have raised it, which takes everything for a lost connection.
    for ours in (error, error.__cause__):
        if isinstance(ours, GemsError):
            return ours
    said = shorten(redact(str(error), *secrets))
    # It stays chained to ours, and tracebacks go where nobody thinks of keys.
    scrub(error, *secrets)
    if isinstance(error, openai.APIStatusError):
        response = error.response
        return from_status(
            response.status_code, response.text, endpoint, *secrets, retry_after=retry_after(response.headers)
        )
    if isinstance(error, openai.APITimeoutError | httpx.TimeoutException | asyncio.TimeoutError):
        return ProviderTimeoutError(f"{endpoint} did not answer in time.")
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return RejectedRequestError(f"{endpoint} has an address that cannot be used: {said}")
    if isinstance(error, openai.APIConnectionError | httpx.TransportError):
        cause = error.__cause__ or error
        # A reset connection has no words of its own.
        said = shorten(redact(str(cause), *secrets)) or type(cause).__name__
        return UnreachableError(f"{endpoint} could not be reached: {said}")
    if isinstance(error, openai.ContentFilterFinishReasonError):
        return RefusedError(f"{endpoint} refused the content.")
    if isinstance(error, openai.OpenAIError | json.JSONDecodeError | KeyError | TypeError | ValueError):
        # langchain-openai raises these for bodies that are no chat completion.
        kind = type(error).__name__
        return UnreadableReplyError(f"{endpoint} sent an answer that cannot be read: {kind}: {said}")
    return ProviderError(f"{endpoint} failed: {type(error).__name__}: {said}")


def retry_after(headers: Any) -> float | None:
    """Seconds a response asks to wait before the next request; None where it does not say."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit)
        except (KeyError, ValueError):
            continue
    return None


async def with_retries(
    call: Callable[[], Awaitable[T]],
    *,
    attempts: int = 4,
    first_wait_s: float = 0.5,
    on_retry: Callable[[GemsError, float], None] | None = None,
) -> T:
    """Await `call()` again while it raises a retryable `GemsError`, up to `attempts` times in all.

    Waits grow exponentially with jitter from `first_wait_s`; an endpoint's Retry-After is honoured up to one
    minute, beyond which the error is raised at once. The last error is raised as it is.

    Args:
        call: Makes one attempt; must raise `GemsError`s (see `translate`).
        attempts: At least 1.
        first_wait_s: Seconds before the second attempt.
        on_retry: Told the error and the seconds until the next attempt.
    """
    backoff = wait_exponential(multiplier=first_wait_s, max=20.0) + wait_random(0, first_wait_s)

    def wait(state: RetryCallState) -> float:
        error = _error(state)
        asked = error.retry_after if isinstance(error, ProviderError) else None
        return float(backoff(state)) if asked is None else asked

    def before_sleep(state: RetryCallState) -> None:
        if on_retry is not None and isinstance(error := _error(state), GemsError):
            on_retry(error, state.upcoming_sleep)

    retrying = AsyncRetrying(
        retry=retry_if_exception(_worth_retrying),
        wait=wait,
        stop=stop_after_attempt(attempts),
        before_sleep=before_sleep,
        reraise=True,
    )

    async def attempt() -> T:
        # tenacity awaits only what it knows to be a coroutine function, which a lambda is not.
        return await call()

    return await retrying(attempt)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None


def _worth_retrying(error: BaseException) -> bool:
    return isinstance(error, ProviderError) and error.retryable and (error.retry_after or 0.0) <= _MAX_WAIT_S


def _readable(body: str) -> str:
    """The message inside an OpenAI-shaped error body, or the body itself."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return body
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else parsed
    message = error.get("message", error) if isinstance(error, dict) else error
    return str(message)
