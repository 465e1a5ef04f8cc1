"""Authentication of MCP over HTTP."""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from gems.apps.server.auth import UnknownKeyError, error_details, status_of
from gems.apps.server.dependencies import Service, caller_at
from gems.errors import GemsError


class KeyGuard:
    """ASGI middleware that applies the access rules of the HTTP server."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI connection."""
        if scope["type"] == "http":
            try:
                caller_at(self._service, HTTPConnection(scope))
            except GemsError as error:
                await _unauthorized_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _unauthorized_response(error: GemsError) -> JSONResponse:
    headers = {"www-authenticate": "Bearer"} if isinstance(error, UnknownKeyError) else {}
    return JSONResponse({"error": error_details(error)}, status_of(error), headers)
