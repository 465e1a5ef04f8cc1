"""Size limit of request bodies."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gems.apps.server.auth import error_details
from gems.apps.server.openai.errors import Details, Failure
from gems.errors import RequestError


class BodyLimit:
    """ASGI middleware that answers 413 to bodies of more than `most` bytes."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._most:
            await self._too_large_response(scope)(scope, receive, send)
            return
        await self._call_with_limit(scope, receive, send)

    async def _call_with_limit(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the received bytes: the declared length may be missing or wrong."""
        got, is_answered = 0, False

        async def receive_counted() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > self._most:
                raise _TooLargeError
            return message

        async def send_unless_exceeded(message: Message) -> None:
            nonlocal is_answered
            # Body parsers of the app answer such errors themselves; discard their response.
            if got <= self._most or is_answered:
                is_answered = True
                await send(message)

        try:
            await self._app(scope, receive_counted, send_unless_exceeded)
        except _TooLargeError:
            if is_answered:
                raise
        if got > self._most and not is_answered:
            await self._too_large_response(scope)(scope, receive, send)

    def _too_large_response(self, scope: Scope) -> JSONResponse:
        message = f"The request body is larger than {self._most:,} bytes."
        if scope["path"].startswith("/v1/"):
            shaped = Details(message=message, type="invalid_request_error", code="request_too_large")
            return JSONResponse(Failure(error=shaped).model_dump(), 413)
        return JSONResponse({"error": error_details(RequestError(message, hint="Send fewer or smaller images."))}, 413)


class _TooLargeError(Exception):
    """The body exceeds the limit."""
