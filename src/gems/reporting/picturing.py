"""Pictures small enough to be part of a page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from gems.errors import StorageError
from gems.memory.images import ImageStore

_QUALITY = 82


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture as a page holds it; `url` is empty where it is missing, and `why` says why."""

    url: str = ""
    width: int = 0
    height: int = 0
    why: str = ""


async def stored(images: ImageStore, wanted: set[str]) -> dict[str, bytes | str]:
    """PNG bytes by image id; what is wrong where an image cannot be loaded."""
    found: dict[str, bytes | str] = {}
    for image in wanted:
        try:
            found[image] = await images.load(image)
        except StorageError as error:
            # The page tells about it in the picture's place.
            found[image] = error.message
    return found


def shown(png: bytes | str, side: int) -> Shown:
    """A picture as a data URL in WebP.

    Args:
        png: PNG bytes; or what is wrong, if there are none.
        side: Longest side in pixels; larger pictures are scaled down.
    """
    if isinstance(png, str):
        return Shown(why=png)
    with Image.open(io.BytesIO(png)) as opened:
        picture = opened.convert("RGBA" if "A" in opened.mode or "transparency" in opened.info else "RGB")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=_QUALITY, method=4)
    encoded = base64.b64encode(out.getvalue()).decode()
    return Shown(f"data:image/webp;base64,{encoded}", *picture.size)
