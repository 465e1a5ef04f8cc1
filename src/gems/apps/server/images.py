"""/images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from gems.apps.server.auth import Caller, error_details
from gems.apps.server.dependencies import Service, caller_of, service_of
from gems.apps.server.schemas import ANY_ERRORS, error_responses
from gems.errors import ImageDamagedError, ImageMissingError
from gems.memory.images import ImageStore

_ID = re.compile(r"([0-9a-f]{64})(\.png)?")
_CACHED = {"cache-control": "private, max-age=31536000, immutable"}
router = APIRouter(tags=["images"])


def parse_id(name: str) -> str | None:
    """Parse an image id with or without `.png`; None if invalid."""
    found = _ID.fullmatch(name)
    return found[1] if found else None


async def image_response(
    images: ImageStore, image: str | None, known: str | None = None, headers: Mapping[str, str] = _CACHED
) -> Response:
    """Return the PNG of an image id, or 404, or 500 for a damaged one; `known` is the header `If-None-Match`."""
    tag = f'"{image}"'
    if image and tag in (known or ""):
        return Response(status_code=304, headers={**headers, "etag": tag})
    try:
        # Checked, since it may be kept for a year; not streamed from its file.
        data = await images.load(image) if image is not None else None
    except ImageDamagedError as error:
        return JSONResponse({"error": error_details(error)}, 500, {"cache-control": "no-store"})
    except ImageMissingError:
        data = None
    if data is None:
        return Response("Image not found.", 404, media_type="text/plain")
    return Response(data, media_type="image/png", headers={**headers, "etag": tag})


async def find_image(service: Service, caller: Caller, name: str) -> str | None:
    """Return the image id in a file name; None if it is invalid, or the caller may not see the image."""
    image = parse_id(name)
    return image if image and await service.access.may_see_image(caller, image) else None


_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}}},
    304: {"description": "The image with the id of `If-None-Match`."},
    404: {"description": "There is no such image.", "content": {"text/plain": {"schema": {"type": "string"}}}},
}


@router.get(
    "/images/{name}", name="get_image", response_class=Response, responses=error_responses(*ANY_ERRORS) | _ANSWERS
)
async def image(name: str, request: Request, caller: Annotated[Caller, Depends(caller_of)]) -> Response:
    """Return the PNG of an image id, with or without `.png`. Its content never changes."""
    service = service_of(request)
    found = await find_image(service, caller, name)
    return await image_response(service.gems.resources.images, found, request.headers.get("if-none-match"))
