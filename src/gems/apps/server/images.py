"""Image responses. Images are content-addressed, so they can be cached forever."""

from __future__ import annotations

import asyncio
import re

from starlette.responses import FileResponse, Response

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
