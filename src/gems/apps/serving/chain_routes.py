"""LangServe routes under `/gems`."""

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
from gems.apps.server.langserve import CONTEXT_KEY, GemsRunnable, RequestContext, requests_in, run_for
from gems.errors import GemsError

PATH = "/gems"


class _Configurable(BaseModel):
    thread_id: str | None = Field("", max_length=200)


class _Config(BaseModel):
    """Validates the fields that LangServe reads."""

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
    """Validates bodies before LangServe, which answers 500 to some invalid ones."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            if request.method == "POST":
                # Check access before the body.
                caller_of(request)
                await _validate_body(request)
            try:
                response = await handle(request)
            except (OSError, ValueError):
                if "file_path" not in request.path_params:
                    raise
                # LangServe stays within its playground folder, but reads any file there as text.
                return Response("Page not found.", 404, media_type="text/plain")
            if isinstance(response, EventSourceResponse):
                response.body_iterator = _with_error_messages(response.body_iterator)
            return response

        return checked


def router() -> APIRouter:
    """Create the routes. Each app needs its own router, since LangServe registers paths."""
    made = APIRouter(route_class=_CheckedRoute)
    add_routes(
        made,
        GemsRunnable(),
        path=PATH,
        config_keys=("configurable",),
        per_req_config_modifier=_with_request_context,
        dependencies=[Depends(caller_of)],
        enable_feedback_endpoint=False,
        enable_public_trace_link_endpoint=False,
        # Links with a configuration would contain only a run id.
        disabled_endpoints=["config_hashes"],
    )
    return made


async def _with_error_messages(parts: AsyncIterable[Any]) -> AsyncIterator[Any]:
    """Replace the error event of LangServe, which hides the message of a GemsError."""
    hidden: Any = None
    try:
        async for part in parts:
            if isinstance(part, dict) and part.get("event") == "error":
                hidden = part
            else:
                yield part
    except GemsError as error:
        yield hidden | {"data": json.dumps({"status_code": status_of(error), "message": str(error)})}


async def _validate_body(request: Request) -> None:
    try:
        body = await request.json()
        _Body.model_validate(body)
        requests_in(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_context=False)) from None
    except (ValueError, RecursionError):
        raise RequestValidationError(
            [{"type": "json_invalid", "loc": ("body",), "msg": "The body is not valid JSON."}]
        ) from None


async def _with_request_context(config: dict[str, Any], request: Request) -> dict[str, Any]:
    """Add the request context; start a single run now, so that errors set the HTTP status."""
    context = RequestContext(service_of(request), caller_of(request))
    body, configurable = await request.json(), config.get("configurable") or {}
    if "inputs" not in body:
        (run_request,) = requests_in(body)
        run_id = await run_for(context, run_request, configurable.get("thread_id"))
        context = RequestContext(context.service, context.caller, run_id)
    return config | {"configurable": configurable | {CONTEXT_KEY: context}}
