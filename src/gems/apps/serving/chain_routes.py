"""LangServe's routes below `/gems`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from langserve import add_routes
from langserve.validation import StreamEventsParameters
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sse_starlette import EventSourceResponse

from gems.apps.server.auth import status_of
from gems.apps.server.dependencies import caller_of, service_of
from gems.apps.server.langserve import ASKED, Asked, GemsRunnable, requests_in, run_for
from gems.errors import GemsError

PATH = "/gems"


class _Configurable(BaseModel):
    thread_id: str | None = Field("", max_length=200)


class _Config(BaseModel):
    """What may be said of it has the right form; LangServe takes what it needs."""

    configurable: _Configurable | None = None
    tags: list[str] | None = None
    metadata: dict[str, Any] | None = None
    max_concurrency: int | None = Field(None, ge=1)
    recursion_limit: int | None = Field(None, ge=1)


class _Body(StreamEventsParameters):
    model_config = ConfigDict(extra="allow")

    config: _Config | list[_Config] | None = None
    inputs: list[dict[str, Any]] = Field(default_factory=list, max_length=256)


class _CheckedRoute(APIRoute):
    """Looks at a body before LangServe does, which answers 500 to some forms that are wrong."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            if request.method == "POST":
                # Whoever may not ask is told that first.
                caller_of(request)
                await _check(request)
            try:
                response = await handle(request)
            except (OSError, ValueError):
                if "file_path" not in request.path_params:
                    raise
                # LangServe keeps to its playground's folder, but takes whatever is named there for a text.
                return Response("There is no such page.", 404, media_type="text/plain")
            if isinstance(response, EventSourceResponse):
                response.body_iterator = _with_reasons(response.body_iterator)
            return response

        return checked


def router() -> APIRouter:
    """The routes, made anew for each app: LangServe registers the paths that it has seen."""
    made = APIRouter(route_class=_CheckedRoute)
    add_routes(
        made,
        GemsRunnable(),
        path=PATH,
        config_keys=("configurable",),
        per_req_config_modifier=_with_asked,
        dependencies=[Depends(caller_of)],
        enable_feedback_endpoint=False,
        enable_public_trace_link_endpoint=False,
        # Links that carry a configuration would hold nothing but a run's id.
        disabled_endpoints=["config_hashes"],
    )
    return made


async def _with_reasons(parts: AsyncIterable[Any]) -> AsyncIterator[Any]:
    """Say why a stream failed: LangServe hides it, but our own messages are meant to be read."""
    hidden: Any = None
    try:
        async for part in parts:
            if isinstance(part, dict) and part.get("event") == "error":
                hidden = part
            else:
                yield part
    except GemsError as error:
        yield hidden | {"data": json.dumps({"status_code": status_of(error), "message": str(error)})}


async def _check(request: Request) -> None:
    try:
        body = await request.json()
        _Body.model_validate(body)
        requests_in(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_context=False)) from None
    except (ValueError, RecursionError):
        raise RequestValidationError(
            [{"type": "json_invalid", "loc": ("body",), "msg": "The body is no JSON."}]
        ) from None


async def _with_asked(config: dict[str, Any], request: Request) -> dict[str, Any]:
    """Say whose request it is; a run is begun before the answer is, so that errors have their status."""
    asked = Asked(service_of(request), caller_of(request))
    body, configurable = await request.json(), config.get("configurable") or {}
    if "inputs" not in body:
        (wanted,) = requests_in(body)
        run_id = await run_for(asked, wanted, configurable.get("thread_id"))
        asked = Asked(asked.service, asked.caller, run_id)
    return config | {"configurable": configurable | {ASKED: asked}}
