"""Routes of images and reports with signed URLs."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse, HTMLResponse

from gems.apps.server.auth import Caller
from gems.apps.web.auth import Kind
from gems.apps.web.controller import Controller
from gems.errors import RunNotFoundError

_ID = re.compile(r"[0-9a-f]{64}")
Owner = Annotated[str, Query(alias="for")]
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path d="M9 5h14l6 8-13 15L3 13z" '
    'fill="#4b4ddb"/><path d="M9 5l-6 8h26l-6-8z" fill="#7d80f5"/><path d="M11 13h10l-5 15z" '
    'fill="#a9abff"/></svg>'
)
_PRIVATE = {"cache-control": "private, max-age=86400", "referrer-policy": "no-referrer"}


def files_router(controller: Controller, base: str) -> APIRouter:
    """Create the routes under the path `base`."""
    router = APIRouter(include_in_schema=False)

    def verify_caller(kind: Kind, name: str, query: tuple[str, int, str]) -> Caller:
        """Return the caller that a URL was signed for.

        Raises:
            RunNotFoundError: the URL is invalid or has expired.
            UnknownKeyError: the key of the caller was revoked.
        """
        if not controller.links.holds(kind, name, *query):
            raise RunNotFoundError(
                "This link is invalid or has expired.", hint="Reload the page that contains it."
            )
        return controller.caller(query[0])

    @router.get(f"{base}/image/{{name}}.png", response_class=FileResponse)
    async def image(name: str, until: int, sign: str, owner: Owner = "") -> Response:
        caller = verify_caller("image", name, (owner, until, sign))
        service = controller.service
        known = _ID.fullmatch(name) and await service.access.may_see_image(caller, name)
        path = service.gems.resources.images.path(name) if known else None
        if path is None or not path.is_file():
            return Response("Image not found.", 404, media_type="text/plain")
        return FileResponse(path, media_type="image/png", headers=_PRIVATE)

    @router.get(f"{base}/report/{{name}}.html")
    async def report(name: str, until: int, sign: str, owner: Owner = "") -> HTMLResponse:
        caller = verify_caller("report", name, (owner, until, sign))
        await controller.service.access.row(caller, name)
        page = await controller.service.gems.report(name)
        return HTMLResponse(page, headers=_PRIVATE | {"cache-control": "no-store"})

    # Browsers request this path by default.
    @router.get("/favicon.ico")
    async def icon() -> Response:
        return Response(_ICON, media_type="image/svg+xml", headers={"cache-control": "max-age=86400"})

    return router
