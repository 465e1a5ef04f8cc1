"""What a run tells, as server-sent events that a client can come back to.

The id of an event names the stretch of work and how many events are known with it: `3f2a91c0-12`. A client
that sends the last one in `Last-Event-ID` hears what it missed; after a restart of the server, what the run
tells since then. Inference steps have no id: of what was missed, only the newest is told.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

import anyio
from fastapi import APIRouter, Header, Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from gems.apps.run_manager import RunHub
from gems.apps.server.auth import error_details
from gems.apps.server.dependencies import service_of
from gems.apps.server.runs import RunId, Whoever
from gems.apps.server.schemas import told_event
from gems.errors import GemsError, InternalError

router = APIRouter(prefix="/runs", tags=["runs"])
_PING_S = 15
_UNREAD_S = 60
"""Seconds after which a client that reads nothing is let go; it can come back."""
_NOTHING_KNOWN = "-"


@router.get(
    "/{run_id}/events",
    response_class=EventSourceResponse,
    responses={200: {"content": {"text/event-stream": {}}}, 204: {"description": "Everything is told."}},
)
async def events(
    run_id: RunId,
    request: Request,
    caller: Whoever,
    last_event_id: Annotated[str | None, Header(max_length=60)] = None,
) -> Response:
    """What a run tells, from its beginning in this process on, or after `Last-Event-ID`."""
    service = service_of(request)
    await service.access.row(caller, run_id)
    after = _known(service.hub, run_id, last_event_id)
    if after and not service.hub.is_working(run_id) and service.hub.is_told(run_id, after):
        # Tells clients that come back by themselves that there is nothing more to come back for.
        return Response(status_code=204)
    return EventSourceResponse(
        _told(service.hub, run_id, after),
        ping=_PING_S,
        send_timeout=_UNREAD_S,
        # A server that stops lets its runs tell how they end.
        shutdown_event=anyio.Event(),
        shutdown_grace_period=service.settings.serve.drain_s + 1,
    )


def _known(hub: RunHub, run_id: str, last: str | None) -> int:
    """How many events are known to a client whose last one has this id."""
    stretch, _, number = (last or "").rpartition("-")
    is_ours = stretch == (hub.stretch(run_id) or _NOTHING_KNOWN)
    return int(number) if is_ours and number.isascii() and number.isdigit() else 0


async def _told(hub: RunHub, run_id: str, after: int) -> AsyncIterator[ServerSentEvent]:
    stretch, number = hub.stretch(run_id) or _NOTHING_KNOWN, after
    try:
        async with aclosing(hub.watch(run_id, after)) as watched:
            async for event in watched:
                is_counted = event.type != "step"
                number += is_counted
                yield ServerSentEvent(
                    json.dumps(told_event(event)),
                    event=event.type,
                    id=f"{stretch}-{number}" if is_counted else None,
                )
    except Exception as error:  # noqa: BLE001 - told to whoever listens; the hub has logged it
        fault = error if isinstance(error, GemsError) else InternalError("The run failed.")
        details = json.dumps({"error": error_details(fault)})
        yield ServerSentEvent(details, event="error", id=f"{stretch}-{number + 1}")
