"""Images and reports that the page shows, for those whose address says that they may see them."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse, HTMLResponse

from gems.apps.server.auth import Caller
from gems.apps.web.controller import Desk
from gems.apps.web.links import Kind
from gems.errors import RunNotFoundError

_ID = re.compile(r"[0-9a-f]{64}")
Owner = Annotated[str, Query(alias="for")]
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path d="M9 5h14l6 8-13 15L3 13z" '
    'fill="#4b4ddb"/><path d="M9 5l-6 8h26l-6-8z" fill="#7d80f5"/><path d="M11 13h10l-5 15z" '
    'fill="#a9abff"/></svg>'
)
_PRIVATE = {"cache-control": "private, max-age=86400", "referrer-policy": "no-referrer"}


def router_of(desk: Desk, base: str) -> APIRouter:
    """The routes below `base`."""
    router = APIRouter(include_in_schema=False)

    def who(kind: Kind, name: str, query: tuple[str, int, str]) -> Caller:
        """Whose address it is.

        Raises:
            RunNotFoundError: nobody's, or no longer.
            UnknownKeyError: their key was revoked.
        """
        if not desk.links.holds(kind, name, *query):
            raise RunNotFoundError("This address does not hold.", hint="Reload the page it came from.")
        return desk.caller(query[0])

    @router.get(f"{base}/image/{{name}}.png", response_class=FileResponse)
    async def image(name: str, until: int, sign: str, owner: Owner = "") -> Response:
        caller = who("image", name, (owner, until, sign))
        service = desk.service
        known = _ID.fullmatch(name) and await service.access.may_see_image(caller, name)
        path = service.gems.resources.images.path(name) if known else None
        if path is None or not path.is_file():
            return Response("There is no such image.", 404, media_type="text/plain")
        return FileResponse(path, media_type="image/png", headers=_PRIVATE)

    @router.get(f"{base}/report/{{name}}.html")
    async def report(name: str, until: int, sign: str, owner: Owner = "") -> HTMLResponse:
        caller = who("report", name, (owner, until, sign))
        await desk.service.access.row(caller, name)
        page = await desk.service.gems.report(name)
        return HTMLResponse(page, headers=_PRIVATE | {"cache-control": "no-store"})

    # Where every browser looks for it.
    @router.get("/favicon.ico")
    async def icon() -> Response:
        return Response(_ICON, media_type="image/svg+xml", headers={"cache-control": "max-age=86400"})

    return router
