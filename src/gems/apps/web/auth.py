"""Signed cookies and links (itsdangerous), sign-in."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import Annotated, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from gems.apps.server.auth import Key, KeyFile
from gems.apps.server.dependencies import check_origin, service_of
from gems.apps.web.rendering import sign_in_html


class Seal:
    """Signs texts with a key of this process; signatures of other processes are invalid."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def sign(self, *parts: str) -> str:
        """Return the signature of texts in this order."""
        # Lengths are included, so that boundaries between parts cannot be moved.
        text = "/".join(f"{len(part)}:{part}" for part in parts)
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

    def holds(self, sign: str, *parts: str) -> bool:
        """Return whether a signature is valid."""
        return hmac.compare_digest(self.sign(*parts).encode(), sign.encode())


COOKIE = "gems_key"
LASTS_S = 7 * 86_400


class Sessions:
    """Creates session cookies for keys, which are valid until they expire or the key is revoked."""

    def __init__(self, keys: KeyFile, clock: Callable[[], float] = time.time) -> None:
        self._keys, self._clock, self._seal = keys, clock, Seal()

    def cookie_for(self, name: str, token: str) -> str | None:
        """Create the cookie for a name and its key; None if they do not match."""
        key = self._keys.find(token.strip())
        if key is None or key.name != name.strip():
            return None
        until = str(int(self._clock()) + LASTS_S)
        return f"{key.name}.{until}.{self._sign(key, until)}"

    def name_of(self, cookie: str) -> str | None:
        """Return the name of a cookie's key; None if the cookie is invalid."""
        name, _, rest = cookie.partition(".")
        until, _, sign = rest.partition(".")
        key = next((key for key in self._keys.all() if key.name == name), None)
        if key is None or not self._seal.holds(sign, "visitor", name, until, key.sha256):
            return None
        return name if self._clock() < int(until) else None

    def _sign(self, key: Key, until: str) -> str:
        # Includes the key hash, so that a new key of the same name invalidates old cookies.
        return self._seal.sign("visitor", key.name, until, key.sha256)


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


Kind = Literal["image", "report"]
_DAY_S = 86_400


class Links:
    """Creates and verifies signed URLs under the path `base`; `clock` returns the Unix time."""

    def __init__(self, base: str, clock: Callable[[], float] = time.time) -> None:
        self._base, self._clock, self._seal = base, clock, Seal()

    def to(self, kind: Kind, name: str, owner: str) -> str:
        """Create the URL of an image or report for an owner; constant for a day for caching."""
        until = (int(self._clock()) // _DAY_S + 2) * _DAY_S
        query = {"for": owner, "until": until, "sign": self._seal.sign(kind, name, owner, str(until))}
        ending = ".png" if kind == "image" else ".html"
        return f"{self._base}/{kind}/{quote(name, safe='')}{ending}?{urlencode(query)}"

    def holds(self, kind: Kind, name: str, owner: str, until: int, sign: str) -> bool:
        """Return whether a URL is signed for this owner and has not expired."""
        return self._seal.holds(sign, kind, name, owner, str(until)) and self._clock() < until
