"""Images as they are sent."""

from __future__ import annotations

import asyncio
import base64
import io

from PIL import Image

from gems.apps.serving.openai.bodies import Format


async def as_base64(png: bytes, kind: Format = "png", quality: int | None = None) -> str:
    """A PNG in the wanted format, in base64.

    Args:
        png: Its bytes; sent as they are where PNG is wanted, with what they say about their making.
        kind: The wanted format.
        quality: Of JPEG and WebP, 0 to 100; 100 where it is None.
    """
    return await asyncio.to_thread(_as_base64, png, kind, 100 if quality is None else quality)


def _as_base64(png: bytes, kind: Format, quality: int) -> str:
    return base64.b64encode(png if kind == "png" else _converted(png, kind, quality)).decode()


def _converted(png: bytes, kind: Format, quality: int) -> bytes:
    out = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        picture.convert("RGB").save(out, kind.upper(), quality=quality)
    return out.getvalue()
