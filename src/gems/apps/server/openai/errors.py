"""Errors in OpenAI's format."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from gems.apps.server.auth import UnknownKeyError, retry_headers, status_of
from gems.apps.server.queue import TooManyRunsError
from gems.apps.server.schemas import ANY_ERRORS, error_responses
from gems.errors import (
    BudgetReachedError,
    DeadlineReachedError,
    EditingUnsupportedError,
    GemsError,
    OptionError,
    PromptError,
    ProviderError,
    RefusedError,
    RunCancelledError,
    RunDrainedError,
    SizeError,
)

logger = logging.getLogger(__name__)
RUN_HEADER = "x-gems-run-id"
"""Header with the ids of the runs of a response, separated by commas."""

PLACE_HEADER, LENGTH_HEADER = "x-gems-queue-position", "x-gems-queue-length"
"""Headers of a request that had to wait: its place among those of its key, from 1, and how many there were."""
STOP_HEADER = "x-gems-stop-reason"
"""Header with the reasons why the runs ended, e.g. `passed` or `deadline`, separated by commas."""

RUN_ERRORS = (413, 429, 502)
"""Statuses of errors of routes that start runs."""
CLIENT_LEFT = 499
"""Status for the log, as nginx has it, where the client closed the connection."""
REWARDS_PATH = "/v1/rewards"
"""Path under /v1 that is not OpenAI's."""
_WAIT_S = 10
# Errors that need more than their fault says, with status, code and field.
_KNOWN: dict[type[GemsError], tuple[int, str | None, str | None]] = {
    UnknownKeyError: (401, "invalid_api_key", None),
    TooManyRunsError: (429, "rate_limit_exceeded", None),
    RefusedError: (400, "content_policy_violation", "prompt"),
    EditingUnsupportedError: (400, "editing_unsupported", "image"),
    PromptError: (400, "invalid_value", "prompt"),
    SizeError: (400, "invalid_value", "size"),
    BudgetReachedError: (400, "budget_reached", "budget_usd"),
    RunCancelledError: (400, "run_cancelled", None),
    DeadlineReachedError: (503, None, None),
}
_OPTIONS = ("max_rounds", "candidates", "seed", "negative_prompt", "budget_usd", "deadline_s")


class Details(BaseModel):
    """Details of an error."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class Failure(BaseModel):
    """Body of an error response."""

    error: Details


class AnswerError(Exception):
    """An invalid request, with the fields of an OpenAI error and an HTTP status."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = "invalid_value", status: int = 400
    ) -> None:
        super().__init__(message)
        self.details = Details(message=message, type="invalid_request_error", param=param, code=code)
        self.status = status


def client_left() -> AnswerError:
    """Return the error of a request whose client closed the connection; nobody reads it."""
    return AnswerError("The client closed the connection.", code="client_left", status=CLIENT_LEFT)


class OpenAIRoute(APIRoute):
    """Route that converts all errors to OpenAI's format."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """Wrap the handler."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as error:  # noqa: BLE001 - reported to the client, and logged if unexpected
                return failure(error)

        return handled


def new_router(route: type[OpenAIRoute] = OpenAIRoute, more: Sequence[int] = ()) -> APIRouter:
    """Create a router that documents its errors in the OpenAPI schema, `more` those of some routes only."""
    answers = error_responses(*ANY_ERRORS, 404, *more, model=Failure)
    # 4XX, so that FastAPI adds no 422, which is a 400 here.
    answers |= {"4XX": {"model": Failure}, "5XX": {"model": Failure}}
    return APIRouter(route_class=route, tags=["OpenAI"], responses=answers)


def is_openai_path(path: str) -> bool:
    """Return whether errors of a path have OpenAI's format."""
    return path.startswith("/v1/") and path != REWARDS_PATH


def failure(error: Exception) -> JSONResponse:
    """Return the response of an error."""
    status, details = described(error)
    return JSONResponse(Failure(error=details).model_dump(), status, _headers(error, status))


def described(error: Exception) -> tuple[int, Details]:
    """Return HTTP status and details of an error."""
    if isinstance(error, ClientDisconnect):
        error = client_left()
    if isinstance(error, AnswerError):
        return error.status, error.details
    if isinstance(error, GemsError):
        return _of_gems(error)
    if isinstance(error, RequestValidationError):
        return 400, _of_validation(error)
    if isinstance(error, HTTPException):
        return error.status_code, Details(message=str(error.detail), type="invalid_request_error")
    logger.error("A request failed.", exc_info=error)
    message = "Internal server error; see the server's log."
    return 500, Details(message=message, type="server_error", code="server_error")


def _of_gems(error: GemsError) -> tuple[int, Details]:
    known = next((entry for kind, entry in _KNOWN.items() if isinstance(error, kind)), None)
    status, code, param = known or (status_of(error), None, None)
    if getattr(error, "retry_after", None) is not None and known is None:
        # The model's endpoint asks to wait, not this server.
        status = 503
    if status >= 500:
        return status, Details(message=str(error), type="server_error", code="server_error")
    kind = "rate_limit_error" if status == 429 else "invalid_request_error"
    param = param or _option_of(error)
    return status, Details(message=str(error), type=kind, param=param, code=code or "invalid_value")


def _option_of(error: GemsError) -> str | None:
    """Return the option of an error; messages start with its name, except for skills."""
    if not isinstance(error, OptionError):
        return None
    named = next((name for name in _OPTIONS if error.message.startswith(name)), None)
    return named or ("skills" if "skill" in error.message else None)


def _of_validation(error: RequestValidationError) -> Details:
    """Describe the first validation error, without repeating input."""
    fault: Mapping[str, Any] = error.errors()[0]
    path = [str(part) for part in fault["loc"][1:]]
    if fault["type"] == "json_invalid":
        return Details(message="The body is not valid JSON.", type="invalid_request_error")
    if not path:
        message = "The body is not a JSON object; send one with `Content-Type: application/json`."
        return Details(message=message, type="invalid_request_error")
    is_missing = fault["type"] == "missing"
    code = "missing_required_parameter" if is_missing else "invalid_value"
    message = f"{'.'.join(path)} is missing." if is_missing else f"{'.'.join(path)}: {fault['msg']}."
    return Details(message=message, type="invalid_request_error", param=path[0], code=code)


def _headers(error: Exception, status: int) -> dict[str, str]:
    headers: dict[str, str] = {}
    if isinstance(error, TooManyRunsError):
        headers |= retry_headers(error)
    elif isinstance(error, RunDrainedError):
        headers["retry-after"] = str(_WAIT_S)
    elif isinstance(error, ProviderError) and error.retry_after is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after)))
    elif status >= 500 and isinstance(error, GemsError) and error.run_id:
        # An automatic retry would pay for another run.
        headers["x-should-retry"] = "false"
    if run_id := getattr(error.__cause__ if isinstance(error, AnswerError) else error, "run_id", ""):
        headers[RUN_HEADER] = run_id
    if isinstance(error, HTTPException):
        headers |= dict(error.headers or {})
    return headers
