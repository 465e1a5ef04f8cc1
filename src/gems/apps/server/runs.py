"""/runs: create, list, events, resume, fork."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from pydantic import Field
from sse_starlette import ServerSentEvent
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from gems.apps.run_manager import RunManager
from gems.apps.server.auth import Caller, error_details, images_left, max_images
from gems.apps.server.dependencies import Service, caller_of, event_stream, service_of, with_body
from gems.apps.server.schemas import (
    ANY_ERRORS,
    ForkRequest,
    RepairBody,
    ResumeRequest,
    RunAnswer,
    RunBegun,
    RunBody,
    RunEntries,
    RunEntry,
    RunRequest,
    Status,
    error_responses,
    event_json,
)
from gems.errors import GemsError, InternalError, RequestError
from gems.memory.run_filter import RunFilter
from gems.memory.source_images import MAX_BASE64, decode_base64
from gems.options import OPTIONS, parse_datetime
from gems.runs.cleanup import Deletion
from gems.runs.memory_admin import Forgotten
from gems.types import Decision

# Reports contain text of users and models, so they may load nothing from outside.
_REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_PING_S = 15
_UNREAD_S = 60
"""Seconds after which a client that does not read is disconnected; it can reconnect."""
_NOTHING_KNOWN = "-"


async def start_run(service: Service, caller: Caller, request: RunRequest) -> str:
    """Start a run of the caller within the limits of their key, and return its id."""
    given = request.given()
    async with service.access.beginning(caller, max_images(given), options=given):
        if "source" in given:
            # Decoded here, so that a caller's text is never used as a path.
            given["source"] = decode_base64(given["source"], "source")
        return await service.manager.start(**given, owner=caller.owner)


async def repair_image(service: Service, caller: Caller, body: RepairBody) -> str:
    """Start a run of the caller that mends an image, within the limits of their key, and return its id."""
    given = body.given()
    image, prompt = decode_base64(given.pop("image"), "image"), given.pop("prompt")
    if "mask" in given:
        given["mask"] = decode_base64(given["mask"], "mask")
    async with service.access.beginning(caller, max_images(given), options=given):
        return await service.manager.repair(image, prompt, **given, owner=caller.owner)


async def resume_run(service: Service, caller: Caller, run_id: str, answer: str | Decision | None = None) -> str:
    """Resume a run of the caller, unless it is in progress already."""
    row = await service.access.row(caller, run_id)
    if service.manager.is_working(run_id):
        return run_id
    async with service.access.beginning(caller, await images_left(service.gems, row), options=row["options"]):
        return await service.manager.resume(run_id, answer)


async def attach_run(service: Service, caller: Caller, run_id: str, prompt: str) -> str:
    """Resume a run of the caller unless it is done; raise RequestError if it has another prompt."""
    row = await service.access.row(caller, run_id)
    if row["prompt"] != prompt:
        raise RequestError(
            f"Run {run_id!r} has another prompt.",
            hint="Omit thread_id to start a run, or send the prompt of the run to attach to it.",
        )
    is_done = (await service.gems.show(run_id)).status == "done"
    return run_id if is_done else await resume_run(service, caller, run_id)


async def fork_run(service: Service, caller: Caller, run_id: str, request: ForkRequest) -> str:
    """Start a fork of a run of the caller and return its id."""
    row = await service.access.row(caller, run_id)
    given = request.given()
    number, prompt, _ = given.pop("round"), given.pop("prompt", None), given.pop("decision", None)
    decision = None if request.decision is None else request.decision.decision()
    options: dict[str, Any] = {**row["options"], **given}
    left = max(1, options["max_rounds"] - number) * options["candidates"]
    async with service.access.beginning(caller, left, options=options):
        return await service.manager.fork(run_id, number, prompt, decision=decision, **given)


_ERRORS = error_responses(*ANY_ERRORS)
_UNKNOWN = error_responses(404)
_STARTING = error_responses(413, 429, 502)
_GOING_ON = error_responses(404, 409) | _STARTING
router = APIRouter(prefix="/runs", tags=["runs"], responses=_ERRORS)
CurrentCaller = Annotated[Caller, Depends(caller_of)]
RunId = Annotated[str, Path(max_length=200)]
TimeFilter = Annotated[
    str | None, Query(max_length=60, description="Date with or without a time, e.g. 2026-01-31, or age, e.g. 3d.")
]


@router.post("", status_code=202, name="start_run", responses=_STARTING)
async def begin(body: RunBody, request: Request, caller: CurrentCaller) -> RunBegun:
    """Start a run in the background. Watch its events for progress."""
    return RunBegun.of(await start_run(service_of(request), caller, body))


class _RepairRoute(APIRoute):
    """Route that takes its JSON as a form as well, with images as files."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """Wrap the handler."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "multipart/form-data":
                return await handle(request)
            fields: dict[str, Any] = {}
            try:
                async with request.form(max_part_size=MAX_BASE64) as form:
                    for name, value in form.items():
                        if isinstance(value, str):
                            fields[name] = _field_of(name, value)
                        else:
                            fields[name] = base64.b64encode(await value.read()).decode()
            except (HTTPException, MultiPartException) as error:
                message = f"The form cannot be read: {getattr(error, 'detail', error)}"
                raise RequestError(message, hint="Send multipart/form-data with text fields and files.") from error
            return await handle(with_body(request, json.dumps(fields).encode(), "application/json"))

        return handled


def _field_of(name: str, value: str) -> Any:
    """Return a field of a form as JSON would have it: numbers and truth values are texts there."""
    option = OPTIONS.get(name)
    if option is None or option.type not in (int, float, bool):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


repair_router = APIRouter(prefix="/runs", tags=["runs"], responses=_ERRORS, route_class=_RepairRoute)


@repair_router.post("/repair", status_code=202, name="repair_image", responses=_STARTING)
async def repair(body: RepairBody, request: Request, caller: CurrentCaller) -> RunBegun:
    """Judge an image in the background, and mend what it lacks. It is the run's first round, and is not drawn."""
    return RunBegun.of(await repair_image(service_of(request), caller, body))


@router.get("", name="list_runs")
async def runs(
    request: Request,
    caller: CurrentCaller,
    since: TimeFilter = None,
    until: TimeFilter = None,
    status: Status | None = None,
    text: Annotated[str | None, Query(max_length=500, pattern=r"^[^\x00]*$")] = None,
    min_score: Annotated[float | None, Query(ge=0, le=1)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 20,
) -> RunEntries:
    """List your runs, newest first. Filters are combined with AND."""
    now = datetime.now(UTC)
    run_filter = RunFilter(
        since=None if since is None else parse_datetime(since, now=now),
        until=None if until is None else parse_datetime(until, now=now, end=True),
        status=status,
        text=text,
        min_score=min_score,
        owner=None if caller.key is None else caller.owner,
    )
    rows = await service_of(request).gems.runs(limit, run_filter)
    return RunEntries(runs=[RunEntry.of(row) for row in rows])


@router.get("/{run_id}", name="get_run", responses=_UNKNOWN)
async def run(run_id: RunId, request: Request, caller: CurrentCaller) -> RunAnswer:
    """Show the result or the progress of a run."""
    service = service_of(request)
    await service.access.row(caller, run_id)
    return RunAnswer.of(await service.gems.show(run_id))


@router.post("/{run_id}/cancel", status_code=202, name="cancel_run", responses=_UNKNOWN)
async def cancel(run_id: RunId, request: Request, caller: CurrentCaller) -> RunBegun:
    """Cancel a run, keeping its best image. A run that is not in progress is not changed."""
    service = service_of(request)
    await service.access.row(caller, run_id)
    await service.manager.cancel(run_id)
    return RunBegun.of(run_id)


@router.post("/{run_id}/resume", status_code=202, name="resume_run", responses=_GOING_ON)
async def resume(run_id: RunId, request: Request, caller: CurrentCaller, body: ResumeRequest | None = None) -> RunBegun:
    """Resume a run that was interrupted, failed, was cancelled, or waits for an answer or a decision."""
    decision = body.decision.decision() if body is not None and body.decision is not None else None
    answer = body.answer if body is not None and decision is None else decision
    return RunBegun.of(await resume_run(service_of(request), caller, run_id, answer))


@router.post("/{run_id}/fork", status_code=202, name="fork_run", responses=_GOING_ON)
async def fork(run_id: RunId, body: ForkRequest, request: Request, caller: CurrentCaller) -> RunBegun:
    """Start a run that shares the history of another one up to a round."""
    return RunBegun.of(await fork_run(service_of(request), caller, run_id, body))


@router.get(
    "/{run_id}/report",
    name="get_report",
    response_class=Response,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}, **_UNKNOWN},
)
async def report(run_id: RunId, request: Request, caller: CurrentCaller) -> HTMLResponse:
    """Return a self-contained HTML report of a run."""
    service = service_of(request)
    await service.access.row(caller, run_id)
    headers = {"content-security-policy": _REPORT_POLICY, "x-content-type-options": "nosniff"}
    return HTMLResponse(await service.gems.report(run_id), headers=headers)


class DeletedRun(Deletion):
    """What deleting a run removes, and what is forgotten with it."""

    forgotten: Forgotten | None = Field(
        None, description="Experiences of the run and lessons built from them; null unless `forget` is true."
    )


@router.delete("/{run_id}", name="delete_run", responses=error_responses(404, 409))
async def delete(
    run_id: RunId,
    request: Request,
    caller: CurrentCaller,
    dry_run: bool = False,
    forget: Annotated[bool, Query(description="Also forget what the run taught: its experiences and lessons.")] = False,
) -> DeletedRun:
    """Delete a run and the images that no other run uses. What it taught stays, unless `forget` is true."""
    service = service_of(request)
    await service.access.row(caller, run_id)
    forgotten = None
    if forget and service.gems.resources.experiences is not None:
        # First a look, since a run in progress can be neither deleted nor forgotten; its row is needed to repeat this.
        await service.gems.delete(run_id, dry_run=True)
        forgotten = await service.gems.memory.forget(run=run_id, dry_run=dry_run)
    done = await service.gems.delete(run_id, dry_run=dry_run)
    return DeletedRun.model_validate(done.model_dump() | {"path": None, "forgotten": forgotten})


events_router = APIRouter(prefix="/runs", tags=["runs"], responses=_ERRORS)


@events_router.get(
    "/{run_id}/events",
    name="stream_events",
    # FastAPI would describe errors as of the media type of another class.
    response_class=Response,
    responses={
        200: {"content": {"text/event-stream": {}}},
        204: {"description": "There are no more events."},
        **_UNKNOWN,
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
    stream = _stream_events(service.manager, run_id, after)
    return event_stream(service, stream, ping=_PING_S, send_timeout=_UNREAD_S)


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
                    json.dumps(event_json(event)), event=event.type, id=f"{stretch}-{number}" if is_counted else None
                )
    except Exception as error:  # noqa: BLE001 - sent to the client; the manager has logged it
        fault = error if isinstance(error, GemsError) else InternalError("The run failed.")
        details = json.dumps({"error": error_details(fault)})
        yield ServerSentEvent(details, event="error", id=f"{stretch}-{number + 1}")
