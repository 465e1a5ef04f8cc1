"""Images by their ids."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse

from gems.apps.serving.access import Caller
from gems.apps.serving.service import caller_of, service_of

router = APIRouter(tags=["images"])
_ID = re.compile(r"[0-9a-f]{64}")


@router.get("/images/{name}", response_class=FileResponse)
async def image(name: str, request: Request, caller: Annotated[Caller, Depends(caller_of)]) -> Response:
    """The PNG of an image: its id, and `.png` behind it if one likes. What it shows never changes."""
    service = service_of(request)
    image_id = name.removesuffix(".png")
    missing = Response("There is no such image.", 404, media_type="text/plain")
    if _ID.fullmatch(image_id) is None or not await service.access.may_see_image(caller, image_id):
        return missing
    tag = f'"{image_id}"'
    headers = {"etag": tag, "cache-control": "private, max-age=31536000, immutable"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    path = service.gems.resources.images.path(image_id)
    if not path.is_file():
        return missing
    return FileResponse(path, media_type="image/png", headers=headers)
