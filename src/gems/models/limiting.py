"""Answers of endpoints that are longer than any answer, ended before they fill the memory."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from gems.errors import UnreadableReplyError

if TYPE_CHECKING:
    import httpx

MAX_CHAT_BYTES = 32 * 2**20
"""Longest answer of a chat model or an embedder, with log probabilities."""

MAX_PICTURE_BYTES = 256 * 2**20
"""Longest answer of an image server: the largest picture that is opened, as raw pixels, is smaller."""

# What is packed can stand for a thousand times as much, so nothing packed is asked for and none is taken.
PLAIN = {"Accept-Encoding": "identity"}
"""Headers of a client with `limited`."""

Hooks = dict[str, list[Callable[..., Awaitable[Any]]]]


def limited(most: int) -> Hooks:
    """Event hooks for an `httpx.AsyncClient` whose answers may have so many bytes, and may not be packed.

    An answer that breaks this raises `UnreadableReplyError`, which the openai library wraps in an error of
    its own; `gems.models.http.translate` finds it there.

    Args:
        most: Bytes.
    """

    async def watch(response: httpx.Response) -> None:
        packed = response.headers.get("content-encoding", "identity").strip().lower()
        if packed not in ("identity", ""):
            raise UnreadableReplyError(
                f"{_server(response)} sent a packed answer ({packed[:40]}), which was not asked for."
            )
        response.stream = _counted(response, most, _server(response))

    return {"response": [watch]}


def _server(response: httpx.Response) -> str:
    return f"The server at {response.request.url.host}"


def _counted(response: Any, most: int, server: str) -> Any:
    """The response's stream, which ends with an error where it is too long."""
    stream = response.stream
    # That of the library which made the response: openai brings a httpx of its own under another name.
    library = sys.modules[type(response).__module__.partition(".")[0]]

    class Counted(library.AsyncByteStream):  # type: ignore[misc, name-defined]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            got = 0
            async for part in stream:
                got += len(part)
                if got > most:
                    raise UnreadableReplyError(f"{server} sent more than {most:,} bytes.")
                yield part

        async def aclose(self) -> None:
            await stream.aclose()

    return Counted()
