"""Base class of HTTP image generators: limits, retries and verified images."""

from __future__ import annotations

import asyncio
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from gems.errors import GemsError, InvalidImageError, ProviderError, RejectedRequestError, UnreadableReplyError
from gems.generation import GeneratedImage, GeneratorCapabilities, ImageRequest
from gems.models.concurrency import AdaptiveLimiter
from gems.models.http import is_retryable, translate_error, with_retries
from gems.models.images import verify_image
from gems.models.masks import check_edit, keep_outside
from gems.observability.redaction import redact, scrub, secrets_in, secrets_of_address

if TYPE_CHECKING:
    from PIL.Image import Image

ClientT = TypeVar("ClientT")


_MOST_UNREADABLE = 2
_START = 4
"""Requests at a time, before it is known how many the endpoint takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteLimits:
    """Limits of a remote generator, per attempt and image, and defaults of its requests.

    `concurrency` is the most requests at a time, if the endpoint turns out to take so many.
    """

    timeout_s: float = 180.0
    concurrency: int = 64
    attempts: int = 4
    first_wait_s: float = 0.5
    steps: int | None = None
    guidance: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RawImage:
    """An image as received, not verified yet: its bytes, or the URL at which it lies."""

    data: bytes = field(default=b"", repr=False)
    url: str = field(default="", repr=False)
    seed: int | None
    parameters: dict[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _LoopState(Generic[ClientT]):
    """State of one event loop: neither limiters nor connections can be shared between loops."""

    limiter: AdaptiveLimiter
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    client: ClientT | None = None


class RemoteGenerator(ABC, Generic[ClientT]):
    """An image generator behind a URL; subclasses implement a single attempt.

    May be used from several event loops, also concurrently; each has its own connections. `aclose` closes
    those of the running loop, and a later request opens new ones. `endpoint` names the server in messages,
    from which the key and secrets of `url` and `extra_body` are redacted.
    """

    _times_itself: ClassVar[bool] = False
    """Whether `_draw` keeps the time limit itself, since not all of its time is the image's."""

    def __init__(
        self,
        capabilities: GeneratorCapabilities,
        *,
        endpoint: str,
        url: str,
        api_key: str | None,
        extra_body: Mapping[str, Any] | None,
        limits: RemoteLimits | None,
    ) -> None:
        self._capabilities = capabilities
        self._endpoint = endpoint
        self._url = url
        self._api_key = api_key
        self._extra = dict(extra_body or {})
        key = (api_key,) if api_key else ()
        self._secrets = (*key, *secrets_of_address(url), *secrets_in(self._extra))
        self._limits = limits or RemoteLimits()
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopState[ClientT]] = (
            weakref.WeakKeyDictionary()
        )

    @property
    def capabilities(self) -> GeneratorCapabilities:
        """Capabilities, as far as known."""
        return self._capabilities

    async def generate(self, request: ImageRequest) -> GeneratedImage:
        """Generate one image; width and height of the result are those of the received image."""
        self._capabilities.check_size(request.width, request.height)
        await asyncio.to_thread(check_edit, request, self._capabilities)
        request = replace(
            request,
            steps=self._limits.steps if request.steps is None else request.steps,
            guidance=self._limits.guidance if request.guidance is None else request.guidance,
        )
        unreadable = 0

        def may_help(error: BaseException) -> bool:
            nonlocal unreadable
            # Each answer that cannot be read may have been paid for.
            unreadable += isinstance(error, InvalidImageError | UnreadableReplyError)
            return is_retryable(error) and unreadable < _MOST_UNREADABLE

        image = await with_retries(
            partial(self._attempt, request),
            attempts=self._limits.attempts,
            first_wait_s=self._limits.first_wait_s,
            retries=may_help,
        )
        return await asyncio.to_thread(keep_outside, image, request)

    async def aclose(self) -> None:
        """Close this event loop's connections. Idempotent."""
        state = self._loops.pop(asyncio.get_running_loop(), None)
        if state is not None and state.client is not None:
            await self._close(state.client)

    async def _attempt(self, request: ImageRequest) -> GeneratedImage:
        # One slot per attempt: a request waiting for its retry leaves its slot to others.
        kind = f"{request.width}x{request.height}, {request.steps} steps" + (", edited" if request.source else "")
        async with self._loop_state().limiter.slot(kind):
            started = time.perf_counter()
            try:
                async with asyncio.timeout(None if self._times_itself else self._limits.timeout_s):
                    raw = await self._draw(await self._client(), request)
                data, picture = await self._receive(raw)
            except GemsError as error:
                # The message may quote the response, and the response may repeat secrets of the request.
                error.message = redact(error.message, *self._secrets)
                scrub(error, *self._secrets)
                raise
            except Exception as error:
                raise translate_error(error, self._endpoint, *self._secrets) from error
            return GeneratedImage(
                data=data,
                width=picture.width,
                height=picture.height,
                seed=raw.seed,
                model=self._capabilities.model,
                parameters=raw.parameters,
                seconds=time.perf_counter() - started,
                warnings=(*raw.warnings, *self._compare_size(request, picture)),
                pixels=picture,
            )

    def _compare_size(self, request: ImageRequest, picture: Image) -> tuple[str, ...]:
        if picture.size == (request.width, request.height):
            return ()
        sizes = f"{picture.width}x{picture.height} pixels, not of the requested {request.width}x{request.height}"
        return (f"{self._endpoint} sent an image of {sizes}.",)

    async def _receive(self, raw: RawImage) -> tuple[bytes, Image]:
        """Return the verified image. One at a URL is paid for, so only fetching it is repeated."""
        if not raw.url:
            return await asyncio.to_thread(verify_image, raw.data, self._endpoint)

        async def fetch() -> tuple[bytes, Image]:
            try:
                async with asyncio.timeout(self._limits.timeout_s):
                    data = await self._fetch(await self._client(), raw.url)
            except Exception as error:
                raise translate_error(error, self._endpoint, *self._secrets) from error
            return await asyncio.to_thread(verify_image, data, self._endpoint)

        try:
            return await with_retries(fetch, attempts=self._limits.attempts, first_wait_s=self._limits.first_wait_s)
        except ProviderError as error:
            if not error.retryable:
                raise
            what = f"{self._endpoint} generated an image that could not be fetched: {error.message}"
            raise RejectedRequestError(what, hint="Configure the server to return b64_json.") from error

    def _loop_state(self) -> _LoopState[ClientT]:
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            self._loops[loop] = _LoopState(AdaptiveLimiter(self._limits.concurrency, _START, self._limits.timeout_s))
        return self._loops[loop]

    async def _client(self) -> ClientT:
        state = self._loop_state()
        async with state.opening:
            if state.client is None:
                # Importing the client library and reading certificates can take seconds.
                state.client = await asyncio.to_thread(self._open)
            return state.client

    @abstractmethod
    def _open(self) -> ClientT:
        """Create a client. Runs in a thread."""

    @abstractmethod
    async def _close(self, client: ClientT) -> None:
        """Close a client."""

    async def _fetch(self, client: ClientT, url: str) -> bytes:  # noqa: ARG002 - for servers that answer URLs
        """Fetch the image at a URL that the server answered."""
        raise RejectedRequestError(f"{self._endpoint} sent a URL instead of an image.")

    @abstractmethod
    async def _draw(self, client: ClientT, request: ImageRequest) -> RawImage:
        """Send one request. May raise exceptions of the client library."""
