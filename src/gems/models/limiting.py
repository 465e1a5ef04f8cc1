"""Limit the size of HTTP responses before they fill the memory."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from gems.errors import UnreadableReplyError

if TYPE_CHECKING:
    import httpx

MAX_CHAT_BYTES = 32 * 2**20
"""Largest response of a chat model or an embedder, with log probabilities."""

MAX_IMAGE_BYTES = 256 * 2**20
"""Largest response of an image server: above the raw pixels of the largest accepted image."""

# A compressed body can expand a thousandfold.
UNCOMPRESSED = {"Accept-Encoding": "identity"}
"""Headers of a client with `max_response_size`: compressed responses are rejected."""

EventHooks = dict[str, list[Callable[..., Awaitable[Any]]]]


def max_response_size(most: int) -> EventHooks:
    """Return event hooks of an `httpx.AsyncClient` that limit responses to `most` bytes, uncompressed.

    They raise `UnreadableReplyError`, which the openai library wraps in an error of its own;
    `gems.models.http.translate_error` unwraps it.
    """

    async def limit(response: httpx.Response) -> None:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", ""):
            raise UnreadableReplyError(
                f"{_name_server(response)} sent a compressed response ({encoding[:40]}) without being asked."
            )
        response.stream = _limit_stream(response, most, _name_server(response))

    return {"response": [limit]}


def _name_server(response: httpx.Response) -> str:
    return f"The server at {response.request.url.host}"


def _limit_stream(response: Any, most: int, server: str) -> Any:
    """Return the response's stream, which raises once it is too long."""
    stream = response.stream
    # The library that made the response: openai ships an httpx of its own under another name.
    library = sys.modules[type(response).__module__.partition(".")[0]]

    class LimitedStream(library.AsyncByteStream):  # type: ignore[misc, name-defined]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            received = 0
            async for part in stream:
                received += len(part)
                if received > most:
                    raise UnreadableReplyError(f"{server} sent more than {most:,} bytes.")
                yield part

        async def aclose(self) -> None:
            await stream.aclose()

    return LimitedStream()
