"""What a request may ask of Gradio: to show the page and to press its buttons, and nothing else.

Gradio also stores uploads, serves files, and fetches addresses that a request names: among the values of
fields too, where one claims to be a file. None of it is needed here.
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
from gems.apps.web.visitors import COOKIE, Visitors
from gems.errors import RequestError

_READ = re.compile(r"/|/config|/theme\.css|/(assets|static|svelte)/[\w./-]+|/gradio_api/queue/data")
_PRESS = ("/gradio_api/queue/join", "/gradio_api/run/predict")
_MOST = 1_000_000
"""Bytes of what is pressed with all fields; the longest prompt, fully escaped, has a quarter of it."""
# Gradio makes functions out of templates. Whatever got into the page, it could not call home.
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


class Pressed(BaseModel):
    """What a browser sends when something is pressed; its fields hold plain values only."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    data: list[str | bool | int | float | None] = Field(max_length=20)
    fn_index: int
    session_hash: str = Field(pattern=r"^[0-9a-z]{1,40}$")
    trigger_id: int | None = None


class Guard:
    """ASGI app in front of Gradio's.

    Args:
        app: Gradio's.
        service: The opened service.
        visitors: Who signed in.
        sign_in: Path of the page to sign in.
    """

    def __init__(
        self, app: ASGIApp, service: Callable[[], Service], visitors: Visitors, sign_in: str
    ) -> None:
        self._app, self._service, self._visitors, self._sign_in = app, service, visitors, sign_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            raise RequestError("The page needs no such connection.", hint="Open its address in a browser.")
        request = Request(scope, receive)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        is_read = request.method in ("GET", "HEAD") and _READ.fullmatch(path) and "/." not in path
        if not is_read and not (request.method == "POST" and path in _PRESS):
            await Response("There is no such page.", 404, media_type="text/plain")(scope, receive, send)
            return
        if not self._lets_in(request):
            await self._to_sign_in(request, path)(scope, receive, send)
            return
        if not is_read:
            receive = _replaying(await _pressed(request))
            headers = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
            scope = {**scope, "headers": headers}
        await self._app(scope, receive, _with_headers(send))

    def _lets_in(self, request: Request) -> bool:
        """Whether somebody may use the page.

        Raises:
            ForeignPageError: another site's page sent it.
            UnknownKeyError: the server has no keys, and another machine asks.
        """
        service = self._service()
        if not service.access.needs_key:
            check_neighbour(request, service.settings)
            return True
        if request.method not in ("GET", "HEAD"):
            check_origin(request, service.settings)
        return self._visitors.name_of(request.cookies.get(COOKIE, "")) is not None

    def _to_sign_in(self, request: Request, path: str) -> Response:
        """Leads to the page to sign in, whence one comes back to the same run.

        Raises:
            UnknownKeyError: no person asks for a page.
        """
        if path != "/":
            raise UnknownKeyError("You are not signed in.", hint="Reload the page.")
        run = quote(request.query_params.get("run", ""), safe="")
        return RedirectResponse(f"{self._sign_in}?run={run}" if run else self._sign_in, 303)


async def _pressed(request: Request) -> bytes:
    """The body of a request, reduced to plain values.

    Raises:
        RequestError: it holds something else, or too much.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MOST:
            raise RequestError(
                f"What the page sent has more than {_MOST:,} bytes.", hint="Write less into its fields."
            )
    try:
        return Pressed.model_validate_json(bytes(body)).model_dump_json().encode()
    except ValidationError:
        raise RequestError("The page takes plain values only.", hint="Reload the page.") from None


def _replaying(body: bytes) -> Receive:
    """Hand over a body that has been read; then there is nothing more to come."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_HEADERS)
        await send(message)

    return sending
