"""/healthz, /readyz, /metrics."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from gems.apps.server.dependencies import Service, caller_of, is_local, service_of
from gems.apps.server.schemas import AsciiJSON, error_responses

router = APIRouter(tags=["health"])
_PATIENCE_S = 5.0
_INVALID: dict[int | str, dict[str, Any]] = {400: {"description": "The request is not valid HTTP."}}
_PUBLIC: dict[str, Any] = {"security": []}
"""OpenAPI description of a route without a key."""


class Health(BaseModel):
    """The process is alive."""

    status: str = "ok"


class Readiness(BaseModel):
    """Whether runs can be started."""

    is_ready: bool
    problems: list[str] = Field(description="Unreachable components with the error; empty if ready.")


@router.get("/healthz", responses=_INVALID, openapi_extra=_PUBLIC)
async def healthz() -> Health:
    """Report that the process is alive."""
    return Health()


@router.get(
    "/readyz",
    response_model=Readiness,
    responses={
        503: {"model": Readiness, "description": "Something is unreachable, or the server is stopping."},
        **_INVALID,
    },
    openapi_extra=_PUBLIC,
)
async def readyz(request: Request) -> Response:
    """Report whether the stores are reachable and the server is not stopping."""
    service = service_of(request)
    problems = ["stopping"] if service.manager.is_draining else await _problems(service)
    answer = Readiness(is_ready=not problems, problems=problems)
    return AsciiJSON(answer.model_dump(), 503 if problems else 200)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **error_responses(401, 403)},
    openapi_extra={"security": [{}, {"bearer": []}, {"apiKey": []}]},
)
async def metrics(request: Request) -> Response:
    """Return Prometheus metrics. Requests from this machine need no key."""
    if not is_local(request):
        caller_of(request)
    return Response(service_of(request).metrics.page(), media_type=CONTENT_TYPE_LATEST)


async def _problems(service: Service) -> list[str]:
    resources, nobody = service.gems.resources, {"configurable": {"thread_id": "readiness"}}
    looks: dict[str, Awaitable[Any]] = {
        "ledger": resources.ledger.run("readiness"),
        "checkpoints": resources.checkpointer.aget_tuple(nobody),  # type: ignore[arg-type]
        "home": asyncio.to_thread(_check_home, service),
    }
    found = await asyncio.gather(
        *(asyncio.wait_for(look, _PATIENCE_S) for look in looks.values()), return_exceptions=True
    )
    # Error messages may contain paths of the server.
    return [
        f"{name}: {type(fault).__name__}"
        for name, fault in zip(looks, found, strict=True)
        if isinstance(fault, BaseException)
    ]


def _check_home(service: Service) -> None:
    if not os.access(service.settings.home, os.W_OK | os.X_OK):
        raise PermissionError
