"""Runnable and /gems routes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from langchain_core.callbacks import AsyncCallbackManagerForChainRun, adispatch_custom_event
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config, get_config_list
from langchain_core.runnables.utils import ConfigurableFieldSpec
from langserve import CustomUserType, add_routes
from langserve.validation import StreamEventsParameters
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sse_starlette import EventSourceResponse
from typing_extensions import override

from gems.apps.server.auth import Caller, status_of
from gems.apps.server.dependencies import Service, caller_of, event_stream, service_of
from gems.apps.server.runs import attach_run, start_run
from gems.apps.server.schemas import ANY_ERRORS, RunAnswer, RunRequest, error_responses, event_json
from gems.errors import GemsError, InternalError
from gems.events import Finished

CONTEXT_KEY = "__gems_context"
"""Key of a `RequestContext` in `configurable`; LangChain does not trace keys with this prefix."""
PATH = "/gems"


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Server and sender of a request; `run_id` is empty if a run has yet to be started."""

    service: Service
    caller: Caller
    run_id: str = ""


class RunInput(RunRequest, CustomUserType):
    """A run request; LangServe passes it on unchanged."""


class GemsRunnable(Runnable[RunInput | dict[str, Any], dict[str, Any]]):
    """Executes runs. A stream yields the events of the run, and last the result of `ainvoke`."""

    name = "gems"

    @property
    @override
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        return [
            ConfigurableFieldSpec(
                id="thread_id",
                annotation=str,
                name="Run",
                description="Run to attach to, and to resume if interrupted. Starts a new run if omitted.",
                default="",
            )
        ]

    @override
    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        return RunInput

    @override
    def get_output_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        return RunAnswer

    def invoke(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Raise InternalError."""
        raise InternalError("invoke is not supported.", hint="Use ainvoke.")

    @override
    async def ainvoke(
        self, input: RunInput | dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        return await self._acall_with_config(self._result, _to_dict(input), config, **kwargs)

    async def abatch(
        self,
        inputs: list[RunInput | dict[str, Any]],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """Execute several runs within the parallel limit of the caller's key."""
        configs = get_config_list(config, len(inputs))
        for each in configs:
            key = _request_context(each).caller.key
            if key is not None:
                each["max_concurrency"] = key.runs_at_a_time
        return await super().abatch(inputs, configs, return_exceptions=return_exceptions, **kwargs)

    @override
    async def astream(
        self, input: RunInput | dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[dict[str, Any]]:

        async def single_input() -> AsyncIterator[RunInput | dict[str, Any]]:
            yield _to_dict(input)

        parts = self._atransform_stream_with_config(single_input(), self._parts, ensure_config(config), **kwargs)
        async for part in parts:
            yield part

    async def _result(
        self,
        request: RunInput | dict[str, Any],
        run_manager: AsyncCallbackManagerForChainRun,  # noqa: ARG002 - LangChain's signature
        config: RunnableConfig,
    ) -> dict[str, Any]:
        context = _request_context(config)
        result = await context.service.manager.result(await _run(context, request, config))
        return RunAnswer.of(result).model_dump(mode="json")

    async def _parts(
        self,
        given: AsyncIterator[RunInput | dict[str, Any]],
        run_manager: AsyncCallbackManagerForChainRun,  # noqa: ARG002 - LangChain's signature
        config: RunnableConfig,
    ) -> AsyncIterator[dict[str, Any]]:
        context = _request_context(config)
        async for request in given:
            run_id = await _run(context, request, config)
            async with aclosing(context.service.manager.watch(run_id)) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        yield RunAnswer.of(event.result).model_dump(mode="json")
                        return
                    payload = event_json(event)
                    await adispatch_custom_event(f"gems.{event.type}", payload, config=config)
                    yield payload


def _to_dict(given: RunInput | dict[str, Any]) -> dict[str, Any]:
    """Convert the input to a dictionary for callbacks."""
    return given.given() if isinstance(given, RunInput) else given


def _request_context(config: RunnableConfig) -> RequestContext:
    context = (config.get("configurable") or {}).get(CONTEXT_KEY)
    if not isinstance(context, RequestContext):
        raise InternalError("The request context is missing.", hint="Use GemsRunnable with `gems serve`.")
    return context


async def _run(context: RequestContext, request: RunInput | dict[str, Any], config: Mapping[str, Any]) -> str:
    """Return the run of a request; start it, or attach to that of a thread, if necessary."""
    if context.run_id:
        return context.run_id
    parsed = RunRequest.model_validate(request)
    if thread_id := (config.get("configurable") or {}).get("thread_id"):
        return await attach_run(context.service, context.caller, thread_id, parsed.prompt)
    return await start_run(context.service, context.caller, parsed)


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
                return event_stream(service_of(request), _with_error_messages(response.body_iterator))
            return response

        return checked


def router() -> APIRouter:
    """Create the routes. Each app needs its own router, since LangServe registers paths."""
    made = APIRouter(route_class=_CheckedRoute, responses=error_responses(*ANY_ERRORS, 404, 409, 413, 429, 502))
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
    for route in made.routes:
        if isinstance(route, APIRoute):
            _correct_description(route)
    return made


def _correct_description(route: APIRoute) -> None:
    """Describe a route of LangServe as it is."""
    name = route.path.removeprefix(f"{PATH}/")
    if name == "token_feedback":
        # Nothing is taken there, since feedback is off.
        route.include_in_schema = False
    elif name.startswith("stream"):
        route.responses[200] = {"content": {"text/event-stream": {}}}
        route.response_class = Response


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
        for one in body["inputs"] if "inputs" in body else [body.get("input")]:
            RunRequest.model_validate(one)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_context=False)) from None
    except (ValueError, RecursionError):
        raise RequestValidationError(
            [{"type": "json_invalid", "loc": ("body",), "msg": "The body is not valid JSON."}]
        ) from None


async def _with_request_context(config: dict[str, Any], request: Request) -> dict[str, Any]:
    """Add the request context; start a single run now, so that errors set the HTTP status."""
    context = RequestContext(service_of(request), caller_of(request))
    body = await request.json()
    if "inputs" not in body:
        context = replace(context, run_id=await _run(context, body.get("input"), config))
    return config | {"configurable": (config.get("configurable") or {}) | {CONTEXT_KEY: context}}
