"""Routes to sign in and out, for servers with keys."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from gems.apps.server.dependencies import check_origin, service_of
from gems.apps.web.rendering import sign_in_html
from gems.apps.web.visitors import COOKIE, LASTS_S, Sessions

_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "same-origin",
}
Text = Annotated[str, Form(max_length=200)]


def sign_in_router(sessions: Sessions, page: str) -> APIRouter:
    """Create the routes under the path `page`."""
    router = APIRouter(prefix=page, include_in_schema=False)

    @router.get("/sign-in")
    async def show(run: str = "") -> Response:
        return HTMLResponse(sign_in_html(run), headers=_HEADERS)

    @router.post("/sign-in")
    async def sign_in(request: Request, name: Text = "", key: Text = "", run: Text = "") -> Response:
        check_origin(request, service_of(request).settings)
        cookie = sessions.cookie_for(name, key)
        if cookie is None:
            return HTMLResponse(sign_in_html(run, name, is_refused=True), 403, headers=_HEADERS)
        answer = RedirectResponse(f"{page}/?{urlencode({'run': run})}" if run else f"{page}/", 303)
        answer.set_cookie(
            COOKIE,
            cookie,
            max_age=LASTS_S,
            path=page,
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="lax",
        )
        return answer

    @router.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        check_origin(request, service_of(request).settings)
        answer = RedirectResponse(f"{page}/sign-in", 303)
        answer.delete_cookie(COOKIE, path=page)
        return answer

    return router
