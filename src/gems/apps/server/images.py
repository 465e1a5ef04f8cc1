"""/images."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse

from gems.apps.server.auth import Caller
from gems.apps.server.dependencies import caller_of, service_of
from gems.memory.images import ImageStore

_ID = re.compile(r"[0-9a-f]{64}")


def image_id(name: str) -> str | None:
    """Parse an image id with or without `.png`; None if invalid."""
    found = name.removesuffix(".png")
    return found if _ID.fullmatch(found) else None


def missing() -> Response:
    """Return a 404 response."""
    return Response("Image not found.", 404, media_type="text/plain")


async def picture(images: ImageStore, image: str, known: str | None) -> Response:
    """Return an image response; `known` is the header `If-None-Match`."""
    tag = f'"{image}"'
    headers = {"etag": tag, "cache-control": "private, max-age=31536000, immutable"}
    if tag in (known or ""):
        return Response(status_code=304, headers=headers)
    path = images.path(image)
    if not await asyncio.to_thread(path.is_file):
        return missing()
    return FileResponse(path, media_type="image/png", headers=headers)


router = APIRouter(tags=["images"])


@router.get("/images/{name}", response_class=FileResponse)
async def image(name: str, request: Request, caller: Annotated[Caller, Depends(caller_of)]) -> Response:
    """Return the PNG of an image id, with or without `.png`. Its content never changes."""
    service = service_of(request)
    found = image_id(name)
    if found is None or not await service.access.may_see_image(caller, found):
        return missing()
    return await picture(service.gems.resources.images, found, request.headers.get("if-none-match"))
