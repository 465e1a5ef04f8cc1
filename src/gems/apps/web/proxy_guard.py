"""Restricts requests to Gradio to showing the page and pressing its buttons.

Gradio also stores uploads, serves files and fetches URLs in requests, none of which the page needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gems.apps.server.auth import UnknownKeyError
from gems.apps.server.dependencies import Service, check_neighbour, check_origin
from gems.apps.web.auth import COOKIE, Sessions
from gems.errors import RequestError

_READ = re.compile(r"/|/config|/theme\.css|/(assets|static|svelte)/[\w./-]+|/gradio_api/queue/data")
_BUTTON_PATHS = ("/gradio_api/queue/join", "/gradio_api/run/predict")
_MOST = 1_000_000
"""Maximum bytes of a body; the longest prompt, fully escaped, has a quarter of it."""
# Gradio compiles templates, hence unsafe-eval; injected code could still not connect elsewhere.
_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' "
        "'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri "
        "'self'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}


class ButtonPress(BaseModel):
    """Body of a button press, with plain values only."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    data: list[str | bool | int | float | None] = Field(max_length=20)
    fn_index: int
    session_hash: str = Field(pattern=r"^[0-9a-z]{1,40}$")
    trigger_id: int | None = None


class ProxyGuard:
    """ASGI middleware in front of Gradio's app; `sign_in` is the path of the sign-in page."""

    def __init__(self, app: ASGIApp, service: Callable[[], Service], sessions: Sessions, sign_in: str) -> None:
        self._app, self._service, self._sessions, self._sign_in = app, service, sessions, sign_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI connection."""
        if scope["type"] != "http":
            raise RequestError("Only HTTP is supported.", hint="Open the page in a browser.")
        request = Request(scope, receive)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        is_read = request.method in ("GET", "HEAD") and _READ.fullmatch(path) and "/." not in path
        if not is_read and not (request.method == "POST" and path in _BUTTON_PATHS):
            await Response("Page not found.", 404, media_type="text/plain")(scope, receive, send)
            return
        if not self._is_allowed(request):
            await self._redirect_to_sign_in(request, path)(scope, receive, send)
            return
        if not is_read:
            receive = _replay_body(await _read_button_press(request))
            headers = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
            scope = {**scope, "headers": headers}
        await self._app(scope, receive, _add_headers(send))

    def _is_allowed(self, request: Request) -> bool:
        """Return whether the sender may use the page; raise an error for other machines and sites."""
        service = self._service()
        if not service.access.needs_key:
            check_neighbour(request, service.settings)
            return True
        if request.method not in ("GET", "HEAD"):
            check_origin(request, service.settings)
        return self._sessions.name_of(request.cookies.get(COOKIE, "")) is not None

    def _redirect_to_sign_in(self, request: Request, path: str) -> Response:
        """Redirect to the sign-in page, keeping the run; raise UnknownKeyError for requests by scripts."""
        if path != "/":
            raise UnknownKeyError("You are not signed in.", hint="Reload the page.")
        run = quote(request.query_params.get("run", ""), safe="")
        return RedirectResponse(f"{self._sign_in}?run={run}" if run else self._sign_in, 303)


async def _read_button_press(request: Request) -> bytes:
    """Validate and re-encode the body of a button press; raise RequestError if invalid or too large."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MOST:
            raise RequestError(f"The input has more than {_MOST:,} bytes.", hint="Shorten the texts.")
    try:
        return ButtonPress.model_validate_json(bytes(body)).model_dump_json().encode()
    except ValidationError:
        raise RequestError("The page accepts plain values only.", hint="Reload the page.") from None


def _replay_body(body: bytes) -> Receive:
    """Return a receive function that yields a body once."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive


def _add_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_HEADERS)
        await send(message)

    return send_with_headers
