"""Bodies of requests that are too large, refused before they are read to their end."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gems.apps.server.openai.errors import Details, Failure


class BodyLimit:
    """ASGI middleware that refuses larger bodies with 413.

    Args:
        app: The app behind it.
        most: Bytes.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._most:
            await self._refusal(scope)(scope, receive, send)
            return
        await self._counted(scope, receive, send)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what comes: a length need not be declared, or not be true."""
        got = 0
        is_answered = False

        async def counting() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > self._most:
                raise _TooLargeError
            return message

        async def watching(message: Message) -> None:
            nonlocal is_answered
            # What reads bodies makes an answer of its own of every fault that it meets there.
            if got <= self._most or is_answered:
                is_answered = True
                await send(message)

        try:
            await self._app(scope, counting, watching)
        except _TooLargeError:
            if is_answered:
                raise
        if got > self._most and not is_answered:
            await self._refusal(scope)(scope, receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse:
        message = f"The request's body has more than {self._most:,} bytes."
        if scope["path"].startswith("/v1/"):
            shaped = Details(message=message, type="invalid_request_error", code="request_too_large")
            return JSONResponse(Failure(error=shaped).model_dump(), 413)
        details = {"type": "RequestError", "message": message, "fault": "request", "hint": "", "run_id": ""}
        return JSONResponse({"error": details}, 413)


class _TooLargeError(Exception):
    """More came than may."""
