"""Events of a run as resumable server-sent events.

Event ids consist of an id of the event sequence and the number of events so far: `3f2a91c0-12`. A client that
sends the last one in `Last-Event-ID` gets the events it missed; after a restart of the server, those since
then. Inference steps have no id: only the newest missed one is sent.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

import anyio
from fastapi import APIRouter, Header, Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from gems.apps.run_manager import RunManager
from gems.apps.server.auth import error_details
from gems.apps.server.dependencies import service_of
from gems.apps.server.runs import CurrentCaller, RunId
from gems.apps.server.schemas import event_json
from gems.errors import GemsError, InternalError

events_router = APIRouter(prefix="/runs", tags=["runs"])
_PING_S = 15
_UNREAD_S = 60
"""Seconds after which a client that does not read is disconnected; it can reconnect."""
_NOTHING_KNOWN = "-"


@events_router.get(
    "/{run_id}/events",
    response_class=EventSourceResponse,
    responses={
        200: {"content": {"text/event-stream": {}}},
        204: {"description": "There are no more events."},
    },
)
async def events(
    run_id: RunId,
    request: Request,
    caller: CurrentCaller,
    last_event_id: Annotated[str | None, Header(max_length=60)] = None,
) -> Response:
    """Stream the events of a run, from its start in this process or after `Last-Event-ID`."""
    service = service_of(request)
    await service.access.row(caller, run_id)
    after = _count_received(service.manager, run_id, last_event_id)
    if after and not service.manager.is_working(run_id) and service.manager.has_all_events(run_id, after):
        # 204 stops the automatic reconnection of clients.
        return Response(status_code=204)
    return EventSourceResponse(
        _stream_events(service.manager, run_id, after),
        ping=_PING_S,
        send_timeout=_UNREAD_S,
        # A stopping server still sends the last events of its runs.
        shutdown_event=anyio.Event(),
        shutdown_grace_period=service.settings.serve.drain_s + 1,
    )


def _count_received(manager: RunManager, run_id: str, last: str | None) -> int:
    """Return how many events a client has, from the id of its last one."""
    stretch, _, number = (last or "").rpartition("-")
    is_ours = stretch == (manager.stretch(run_id) or _NOTHING_KNOWN)
    return int(number) if is_ours and number.isascii() and number.isdigit() else 0


async def _stream_events(manager: RunManager, run_id: str, after: int) -> AsyncIterator[ServerSentEvent]:
    stretch, number = manager.stretch(run_id) or _NOTHING_KNOWN, after
    try:
        async with aclosing(manager.watch(run_id, after)) as watched:
            async for event in watched:
                is_counted = event.type != "step"
                number += is_counted
                yield ServerSentEvent(
                    json.dumps(event_json(event)),
                    event=event.type,
                    id=f"{stretch}-{number}" if is_counted else None,
                )
    except Exception as error:  # noqa: BLE001 - sent to the client; the manager has logged it
        fault = error if isinstance(error, GemsError) else InternalError("The run failed.")
        details = json.dumps({"error": error_details(fault)})
        yield ServerSentEvent(details, event="error", id=f"{stretch}-{number + 1}")
