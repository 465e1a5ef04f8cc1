"""Encoding of images in responses."""

from __future__ import annotations

import asyncio
import base64
import io

from PIL import Image

from gems.apps.server.openai.schemas import Format


async def encode_image(png: bytes, kind: Format = "png", quality: int | None = None) -> str:
    """Convert a PNG to a format and encode it as base64. PNGs keep their metadata.

    `quality` is that of JPEG and WebP, 0 to 100. Default: 100.
    """
    return await asyncio.to_thread(_encode_base64, png, kind, 100 if quality is None else quality)


def _encode_base64(png: bytes, kind: Format, quality: int) -> str:
    return base64.b64encode(png if kind == "png" else _convert_image(png, kind, quality)).decode()


def _convert_image(png: bytes, kind: Format, quality: int) -> bytes:
    out = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        picture.convert("RGB").save(out, kind.upper(), quality=quality)
    return out.getvalue()
