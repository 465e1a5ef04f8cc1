"""How a server shows an image by its id: it never changes, so whoever has it need not ask again."""

from __future__ import annotations

import asyncio
import re

from starlette.responses import FileResponse, Response

from gems.memory.images import ImageStore

_ID = re.compile(r"[0-9a-f]{64}")


def image_id(name: str) -> str | None:
    """The id that a name in a link stands for, with or without `.png`; None where it is none."""
    found = name.removesuffix(".png")
    return found if _ID.fullmatch(found) else None


def missing() -> Response:
    """The answer where there is no such image."""
    return Response("There is no such image.", 404, media_type="text/plain")


async def picture(images: ImageStore, image: str, known: str | None) -> Response:
    """The answer that holds an image.

    Args:
        images: Where it is kept.
        image: Its id.
        known: The header `If-None-Match`.
    """
    tag = f'"{image}"'
    headers = {"etag": tag, "cache-control": "private, max-age=31536000, immutable"}
    if tag in (known or ""):
        return Response(status_code=304, headers=headers)
    path = images.path(image)
    if not await asyncio.to_thread(path.is_file):
        return missing()
    return FileResponse(path, media_type="image/png", headers=headers)
