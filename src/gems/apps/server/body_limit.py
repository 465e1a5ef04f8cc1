"""Size limit of request bodies."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gems.apps.server.auth import error_details
from gems.apps.server.openai.errors import Details, Failure, is_openai_path
from gems.errors import RequestError

MAX_FORM_BYTES = 20_000
_FORMS = ("/web/sign-in", "/web/sign-out")
"""Their bodies are read before anybody is known."""


class BodyLimit:
    """ASGI middleware that answers 413 to bodies of more than `most` bytes; the limit of forms to sign in is lower."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = min(self._most, MAX_FORM_BYTES) if scope["path"] in _FORMS else self._most
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > most:
            await _too_large_response(scope, most)(scope, receive, send)
            return
        await self._call_with_limit(most, scope, receive, send)

    async def _call_with_limit(self, most: int, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the received bytes: the declared length may be missing or wrong."""
        got, is_answered = 0, False

        async def receive_counted() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > most:
                raise _TooLargeError
            return message

        async def send_unless_exceeded(message: Message) -> None:
            nonlocal is_answered
            # Body parsers of the app answer such errors themselves; discard their response.
            if got <= most or is_answered:
                is_answered = True
                await send(message)

        try:
            await self._app(scope, receive_counted, send_unless_exceeded)
        except _TooLargeError:
            if is_answered:
                raise
        if got > most and not is_answered:
            await _too_large_response(scope, most)(scope, receive, send)


def _too_large_response(scope: Scope, most: int) -> JSONResponse:
    message = f"The request body is larger than {most:,} bytes."
    if is_openai_path(scope["path"]):
        shaped = Details(message=message, type="invalid_request_error", code="request_too_large")
        return JSONResponse(Failure(error=shaped).model_dump(), 413)
    return JSONResponse({"error": error_details(RequestError(message, hint="Send fewer or smaller images."))}, 413)


class _TooLargeError(Exception):
    """The body exceeds the limit."""
