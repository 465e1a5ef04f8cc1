"""Signed cookies and links (itsdangerous), sign-in."""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from itsdangerous import BadData, TimestampSigner, URLSafeTimedSerializer

from gems.apps.server.auth import KeyFile
from gems.apps.server.dependencies import check_origin, service_of
from gems.apps.web.rendering import sign_in_html

COOKIE = "gems_key"
LASTS_S = 7 * 86_400
_DAY_S = 86_400
Kind = Literal["image", "report"]
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "same-origin",
}


def _create_serializer(signer: type[TimestampSigner] = TimestampSigner) -> URLSafeTimedSerializer:
    """Create a serializer with a key of its own; signatures of other processes are invalid."""
    digest = {"digest_method": hashlib.sha256}
    return URLSafeTimedSerializer(secrets.token_bytes(32), signer=signer, signer_kwargs=digest)


class Sessions:
    """Creates session cookies for keys, which are valid until they expire or the key is revoked."""

    def __init__(self, keys: KeyFile) -> None:
        self._keys, self._serializer = keys, _create_serializer()

    def cookie_for(self, name: str, token: str) -> str | None:
        """Create the cookie for a name and its key; None if they do not match."""
        key = self._keys.find(token.strip())
        if key is None or key.name != name.strip():
            return None
        # Includes the key hash, so that a new key of the same name invalidates old cookies.
        return str(self._serializer.dumps([key.name, key.sha256]))

    def name_of(self, cookie: str) -> str | None:
        """Return the name of a cookie's key; None if the cookie is invalid."""
        try:
            signed = self._serializer.loads(cookie, max_age=LASTS_S)
        except BadData:
            return None
        return next((key.name for key in self._keys.all() if [key.name, key.sha256] == signed), None)


class _DailySigner(TimestampSigner):
    """Signs the day instead of the second, so that links can be cached."""

    def get_timestamp(self) -> int:
        return super().get_timestamp() // _DAY_S * _DAY_S


class Links:
    """Creates and verifies signed URLs under the path `base`."""

    def __init__(self, base: str) -> None:
        self._base, self._serializer = base, _create_serializer(_DailySigner)

    def to(self, kind: Kind, name: str, owner: str) -> str:
        """Create the URL of an image or report for an owner, valid today and tomorrow."""
        sign = self._serializer.dumps(owner, salt=f"{kind}/{name}")
        ending = ".png" if kind == "image" else ".html"
        return f"{self._base}/{kind}/{quote(name, safe='')}{ending}?{urlencode({'sign': sign})}"

    def owner_of(self, kind: Kind, name: str, sign: str) -> str | None:
        """Return the owner that a URL was signed for; None if it is invalid or has expired."""
        try:
            return str(self._serializer.loads(sign, max_age=_DAY_S, salt=f"{kind}/{name}"))
        except BadData:
            return None


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
