"""Routes of runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import HTMLResponse

from gems.apps.server.auth import Caller
from gems.apps.server.dependencies import caller_of, service_of
from gems.apps.server.schemas import (
    ForkRequest,
    ResumeRequest,
    RunAnswer,
    RunBegun,
    RunBody,
    RunEntries,
    RunEntry,
    Status,
)
from gems.apps.serving import beginning
from gems.memory.run_filter import RunFilter
from gems.options import parse_datetime
from gems.runs.cleanup import Deletion

router = APIRouter(prefix="/runs", tags=["runs"])
CurrentCaller = Annotated[Caller, Depends(caller_of)]
RunId = Annotated[str, Path(max_length=200)]
TimeFilter = Annotated[
    str | None,
    Query(max_length=60, description="Date with or without a time, e.g. 2026-01-31, or age, e.g. 3d."),
]
# Reports contain text of users and models, so they may load nothing from outside.
_REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


@router.post("", status_code=202)
async def begin(body: RunBody, request: Request, caller: CurrentCaller) -> RunBegun:
    """Start a run in the background. Watch its events for progress."""
    return RunBegun.of(await beginning.start_run(service_of(request), caller, body))


@router.get("")
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


@router.get("/{run_id}")
async def run(run_id: RunId, request: Request, caller: CurrentCaller) -> RunAnswer:
    """Show the result or the progress of a run."""
    service = service_of(request)
    await service.access.row(caller, run_id)
    return RunAnswer.of(await service.gems.show(run_id))


@router.post("/{run_id}/cancel", status_code=202)
async def cancel(run_id: RunId, request: Request, caller: CurrentCaller) -> RunBegun:
    """Cancel a run, keeping its best image. A run that is not in progress is not changed."""
    service = service_of(request)
    await service.access.row(caller, run_id)
    await service.manager.cancel(run_id)
    return RunBegun.of(run_id)


@router.post("/{run_id}/resume", status_code=202)
async def resume(
    run_id: RunId, request: Request, caller: CurrentCaller, body: ResumeRequest | None = None
) -> RunBegun:
    """Resume a run that was interrupted, failed, was cancelled, or waits for an answer."""
    answer = body.answer if body is not None else None
    return RunBegun.of(await beginning.resume_run(service_of(request), caller, run_id, answer))


@router.post("/{run_id}/fork", status_code=202)
async def fork(run_id: RunId, body: ForkRequest, request: Request, caller: CurrentCaller) -> RunBegun:
    """Start a run that shares the history of another one up to a round."""
    return RunBegun.of(await beginning.fork_run(service_of(request), caller, run_id, body))


@router.get("/{run_id}/report", response_class=HTMLResponse)
async def report(run_id: RunId, request: Request, caller: CurrentCaller) -> HTMLResponse:
    """Return a self-contained HTML report of a run."""
    service = service_of(request)
    await service.access.row(caller, run_id)
    headers = {"content-security-policy": _REPORT_POLICY, "x-content-type-options": "nosniff"}
    return HTMLResponse(await service.gems.report(run_id), headers=headers)


@router.delete("/{run_id}")
async def delete(run_id: RunId, request: Request, caller: CurrentCaller, dry_run: bool = False) -> Deletion:
    """Delete a run and the images that no other run uses."""
    service = service_of(request)
    await service.access.row(caller, run_id)
    done = await service.gems.delete(run_id, dry_run=dry_run)
    no_path: dict[str, Any] = {"path": None}
    return done.model_copy(update=no_path)
