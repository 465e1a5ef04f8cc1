"""Streaming of responses as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from gems.apps.server.openai.errors import RUN_HEADER, described
from gems.apps.server.openai.runs import StartedRuns

STREAM: dict[str, Any] = {
    "description": "The response; with `stream`, as server-sent events.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}
"""OpenAPI description of a response that can be streamed."""

BEAT = ": keep-alive\n\n"
"""A comment, which clients ignore."""


def format_event(data: BaseModel, name: str | None = None) -> str:
    """Format an event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {data.model_dump_json(exclude_none=True)}\n\n"


def stream_response(pieces: AsyncGenerator[str], begun: StartedRuns) -> StreamingResponse:
    """Return a response that streams pieces, and an error as its last event."""
    headers = {
        RUN_HEADER: ",".join(begun.run_ids),
        "cache-control": "no-cache",
        # Stops proxies such as nginx from buffering events.
        "x-accel-buffering": "no",
    }
    return StreamingResponse(_with_error_event(pieces), media_type="text/event-stream", headers=headers)


class _ErrorEvent(BaseModel):
    type: str = "error"
    error: dict[str, Any]


async def _with_error_event(pieces: AsyncGenerator[str]) -> AsyncGenerator[str]:
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
    except Exception as error:  # noqa: BLE001 - the status is sent already, so the error becomes an event
        _, details = described(error)
        yield format_event(_ErrorEvent(error=details.model_dump()), "error")
