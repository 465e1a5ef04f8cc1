"""Route of images."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse

from gems.apps.server.auth import Caller
from gems.apps.server.dependencies import caller_of, service_of
from gems.apps.server.images import image_id, missing, picture

router = APIRouter(tags=["images"])


@router.get("/images/{name}", response_class=FileResponse)
async def image(name: str, request: Request, caller: Annotated[Caller, Depends(caller_of)]) -> Response:
    """Return the PNG of an image id, with or without `.png`. Its content never changes."""
    service = service_of(request)
    found = image_id(name)
    if found is None or not await service.access.may_see_image(caller, found):
        return missing()
    return await picture(service.gems.resources.images, found, request.headers.get("if-none-match"))
