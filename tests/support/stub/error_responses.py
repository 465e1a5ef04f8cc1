"""Error answers, in the words of the servers they were seen on."""

from __future__ import annotations

from starlette.responses import JSONResponse, RedirectResponse, Response

from tests.support.stub.faults import Fault
from tests.support.stub.responses import error

_PLAIN = {
    "401": (401, "Incorrect API key provided: sk-stub-0123456789abcdef.", "invalid_api_key"),
    "403": (403, "You are not allowed to use this model.", "forbidden"),
    "404": (404, "The model `stub` does not exist.", "model_not_found"),
    "429": (429, "Rate limit reached for requests.", "rate_limit_exceeded"),
    "quota": (429, "You exceeded your current quota.", "insufficient_quota"),
    "500": (500, "The server had an error while processing your request.", None),
    "503": (503, "The engine is currently overloaded.", None),
    "no_json_schema": (400, "response_format of type 'json_schema' is not supported.", None),
    "no_json": (400, "'response_format' is not supported by this server.", None),
    "moderated": (400, "Your request was rejected as a result of our safety system.", "content_policy_violation"),
}


def refusal(fault: Fault) -> Response:
    """The answer to a request that `fault` refuses."""
    match fault.name:
        case "too_many_images":
            status, body = 400, error(f"At most {fault.limit} image(s) may be provided in one request.")
        case "unknown_parameter":
            body = error(f"Unknown parameter: '{fault.text}'.", "unknown_parameter", fault.text)
            status = 400
        case "refused":
            status, body = fault.status, error(fault.text)
        case "redirect":
            return RedirectResponse(fault.text)
        case _:
            status, message, code = _PLAIN[fault.name]
            body = error(message, code)
    headers = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
    return JSONResponse(body, status, headers)
