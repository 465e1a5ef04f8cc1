"""Thumbnails for pages."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from gems.errors import StorageError
from gems.memory.images import ImageStore

_QUALITY = 82


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """An image on a page; if it is missing, `url` is empty and `why` has the reason."""

    url: str = ""
    width: int = 0
    height: int = 0
    why: str = ""


async def load_images(images: ImageStore, image_ids: set[str]) -> dict[str, bytes | str]:
    """Load PNG bytes by image id; an error message for images that cannot be loaded."""
    loaded: dict[str, bytes | str] = {}
    for image in image_ids:
        try:
            loaded[image] = await images.load(image)
        except StorageError as error:
            # The page shows the message instead of the image.
            loaded[image] = error.message
    return loaded


def make_thumbnail(png: bytes | str, side: int) -> Thumbnail:
    """Return an image as a WebP data URL, scaled down to `side` pixels; or an error message as it is."""
    if isinstance(png, str):
        return Thumbnail(why=png)
    with Image.open(io.BytesIO(png)) as opened:
        picture = opened.convert("RGBA" if "A" in opened.mode or "transparency" in opened.info else "RGB")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=_QUALITY, method=4)
    encoded = base64.b64encode(out.getvalue()).decode()
    return Thumbnail(f"data:image/webp;base64,{encoded}", *picture.size)
