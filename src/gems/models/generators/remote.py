"""What all image generators behind an HTTP address share: limits, retries, and checked pictures."""

from __future__ import annotations

import asyncio
import time
import weakref
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from gems.errors import EditingUnsupportedError, GemsError
from gems.models.concurrency import Places
from gems.models.http import translate, with_retries
from gems.models.pictures import verified
from gems.observability.redaction import redact, scrub
from gems.types import GeneratedImage, GeneratorCapabilities, ImageRequest

if TYPE_CHECKING:
    from PIL.Image import Image

ClientT = TypeVar("ClientT")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteLimits:
    """How patient a remote generator is.

    Attributes:
        timeout_s: Seconds one attempt may take in all, so that a slow drip ends too.
        concurrency: Requests under way at a time; further ones wait their turn.
        attempts: Attempts per image, at least 1.
        first_wait_s: Seconds before the second attempt; later waits grow.
        steps: Inference steps of requests that name none; None for the endpoint's own.
        guidance: Guidance scale of requests that name none; None for the endpoint's own.
    """

    timeout_s: float = 180.0
    concurrency: int = 4
    attempts: int = 4
    first_wait_s: float = 0.5
    steps: int | None = None
    guidance: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What one attempt brought, not verified yet."""

    data: bytes = field(repr=False)
    seed: int | None
    parameters: dict[str, Any]


@dataclass(slots=True)
class _Here(Generic[ClientT]):
    """What belongs to one event loop: neither a semaphore nor a connection may cross to another."""

    places: Places
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    client: ClientT | None = None


class RemoteGenerator(ABC, Generic[ClientT]):
    """An image generator behind an HTTP address; subclasses say how to ask it once.

    May be used from several event loops, one after the other or side by side; each has connections of its
    own. `aclose` lets go of those of the running loop, and a later request opens new ones.

    Args:
        capabilities: What is known of the endpoint before it is asked.
        endpoint: Its name for messages, free of secrets.
        secrets: Texts that must not appear in messages.
        limits: How patient to be.
    """

    def __init__(
        self,
        capabilities: GeneratorCapabilities,
        *,
        endpoint: str,
        secrets: tuple[str, ...],
        limits: RemoteLimits,
    ) -> None:
        self._capabilities = capabilities
        self._endpoint = endpoint
        self._secrets = secrets
        self._limits = limits
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Here[ClientT]] = (
            weakref.WeakKeyDictionary()
        )

    @property
    def capabilities(self) -> GeneratorCapabilities:
        """What this generator can do, as far as known by now."""
        return self._capabilities

    async def generate(self, request: ImageRequest) -> GeneratedImage:
        """Draw one image; see `gems.models.base.ImageGenerator.generate`.

        Width and height of the result are those of the picture that came, even if others were asked for.
        """
        self._capabilities.check_size(request.width, request.height)
        if request.source is not None and not self._capabilities.editing:
            raise EditingUnsupportedError(
                f"{self._capabilities.model} cannot edit an image.", hint="Use a generator that can."
            )
        request = replace(
            request,
            steps=self._limits.steps if request.steps is None else request.steps,
            guidance=self._limits.guidance if request.guidance is None else request.guidance,
        )
        return await with_retries(
            partial(self._attempt, request),
            attempts=self._limits.attempts,
            first_wait_s=self._limits.first_wait_s,
        )

    async def aclose(self) -> None:
        """Close this event loop's connections. Calling it twice is harmless."""
        here = self._loops.pop(asyncio.get_running_loop(), None)
        if here is not None and here.client is not None:
            await self._close(here.client)

    async def _attempt(self, request: ImageRequest) -> GeneratedImage:
        # A place for each attempt: a request that waits to be asked again leaves its own to others.
        async with self._here().places.one():
            started = time.perf_counter()
            drawn, data, picture = await self._drawn_once(request)
            return GeneratedImage(
                data=data,
                width=picture.width,
                height=picture.height,
                seed=drawn.seed,
                model=self._capabilities.model,
                parameters=drawn.parameters,
                seconds=time.perf_counter() - started,
                pixels=picture,
            )

    async def _drawn_once(self, request: ImageRequest) -> tuple[Drawn, bytes, Image]:
        """What came, its PNG bytes, and the picture itself."""
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                drawn = await self._draw(await self._client(), request)
            return drawn, *await asyncio.to_thread(verified, drawn.data, self._endpoint)
        except GemsError as error:
            # It may quote what came, and what came may repeat what was sent.
            error.message = redact(error.message, *self._secrets)
            scrub(error, *self._secrets)
            raise
        except Exception as error:
            raise translate(error, self._endpoint, *self._secrets) from error

    def _here(self) -> _Here[ClientT]:
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            self._loops[loop] = _Here(Places(self._limits.concurrency))
        return self._loops[loop]

    async def _client(self) -> ClientT:
        here = self._here()
        async with here.opening:
            if here.client is None:
                # Importing the client library and reading certificates take up to seconds.
                here.client = await asyncio.to_thread(self._open)
            return here.client

    @abstractmethod
    def _open(self) -> ClientT:
        """Make a client. Runs in a thread."""

    @abstractmethod
    async def _close(self, client: ClientT) -> None:
        """Close a client."""

    @abstractmethod
    async def _draw(self, client: ClientT, request: ImageRequest) -> Drawn:
        """Ask once. May raise what the client library raises."""
