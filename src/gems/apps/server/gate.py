"""What holds for every request before a route sees it: a key for requests with a body, and headers of responses."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gems.apps.server import documentation
from gems.apps.server.auth import error_details, retry_headers, status_of
from gems.apps.server.dependencies import caller_at
from gems.apps.server.openai.errors import failure, is_openai_path
from gems.apps.server.schemas import AsciiJSON
from gems.errors import GemsError

_WITHOUT_BODY = ("GET", "HEAD", "OPTIONS")
_PAGE = "/web/"
"""The page has a sign-in of its own, which `ProxyGuard` checks before it reads a body."""
_PAGE_POLICY = "frame-ancestors 'none'; base-uri 'none'; object-src 'none'"
_DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class KeyGate:
    """ASGI middleware that refuses requests without a valid key before it reads their bodies."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI connection."""
        if scope["type"] == "http" and scope["method"] not in _WITHOUT_BODY:
            refusal = _refusal(scope)
            if refusal is not None:
                # What is still to come of the body would only be thrown away.
                refusal.headers["connection"] = "close"
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _refusal(scope: Scope) -> Response | None:
    """Return the response to a request that nobody with access sent, from its headers alone."""
    path: str = scope["path"]
    if path.startswith(_PAGE):
        return None
    try:
        caller_at(scope["app"].state.service, HTTPConnection(scope))
    except GemsError as error:
        return failure(error) if is_openai_path(path) else error_response(error)
    return None


def error_response(error: GemsError) -> Response:
    """Return an error as JSON, in the format of the CLI."""
    return AsciiJSON({"error": error_details(error)}, status_of(error), retry_headers(error))


class SecurityHeaders:
    """ASGI middleware that adds the headers which keep other pages from framing or misreading responses."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI connection."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_headers(message, scope["path"])
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _add_headers(message: Message, path: str) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    headers.setdefault("content-security-policy", _policy_of(headers.get("content-type", ""), path))
    if "frame-ancestors 'self'" in headers.get("content-security-policy", ""):
        headers["x-frame-options"] = "SAMEORIGIN"


def _policy_of(media_type: str, path: str) -> str:
    if not media_type.startswith("text/html"):
        return _DATA_POLICY
    return documentation.POLICY if path in documentation.PAGES else _PAGE_POLICY
