"""Pictures that users give as files, bytes or base64, checked before anything is done with them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from PIL import Image

from gems.errors import InvalidImageError, RequestError
from gems.memory.images import ImageStore
from gems.models.pictures import MAX_PIXELS, opened, upright, verified_png

MAX_BYTES = 50_000_000
"""Largest file that is read as a picture."""
MAX_BASE64 = MAX_BYTES * 3 // 2
"""Characters of the longest base64 that is decoded."""


@dataclass(frozen=True)
class SourceImage:
    """A picture to edit: upright, without anything that a camera or a program wrote beside the pixels.

    Attributes:
        png: RGB or RGBA.
        width: Pixels.
        height: Pixels.
    """

    png: bytes = field(repr=False)
    width: int
    height: int

    @cached_property
    def id(self) -> str:
        """Its id in an image store."""
        return hashlib.sha256(self.png).hexdigest()


def source_image(given: bytes | Path | SourceImage) -> SourceImage:
    """The picture to edit. Blocking.

    Args:
        given: A PNG, JPEG or WebP file or its bytes, at most 50 MB and 64 million pixels.

    Raises:
        RequestError: there is no such file, or it holds no picture that can be taken.
    """
    if isinstance(given, SourceImage):
        return given
    if not isinstance(given, bytes | Path):
        # A text could be meant as a path, which a caller from outside must never get read.
        raise RequestError("The source is no picture.", hint="Give a pathlib.Path, or the picture's bytes.")
    plain = _without_metadata(readable_png(given))
    out = io.BytesIO()
    plain.save(out, "PNG")
    return SourceImage(out.getvalue(), *plain.size)


async def keep_source(source: SourceImage, images: ImageStore) -> None:
    """Put a picture to edit where runs find it.

    Raises:
        StorageError: it cannot be written; held in memory only, it would end with this process.
    """
    await images.put(source.png)
    if (fault := images.unsaved.get(source.id)) is not None:
        raise fault


def readable_png(image: bytes | Path) -> bytes:
    """PNG bytes of a picture in a common format, upright. Blocking.

    Raises:
        RequestError: there is no such file, or it holds no picture that can be taken.
    """
    name = image.name if isinstance(image, Path) else "What was sent"
    data = _content(image) if isinstance(image, Path) else image
    if len(data) > MAX_BYTES:
        raise RequestError(f"{name} has more than {MAX_BYTES:,} bytes.", hint="Send a smaller picture.")
    try:
        png, _, _ = verified_png(data, name)
    except InvalidImageError as error:
        # What a file holds that is no picture is nobody's business, so it is not quoted.
        if error.__cause__ is None or isinstance(error.__cause__, Image.DecompressionBombError):
            raise RequestError(
                f"{name} has more than {MAX_PIXELS:,} pixels.", hint="Send a smaller picture."
            ) from None
        raise RequestError(f"{name} is no whole picture.", hint="PNG, JPEG and WebP can be read.") from None
    return png if png is data else _upright(data, png)


def decoded_picture(text: str, name: str, hint: str = "") -> bytes:
    """The bytes of base64, with or without what browsers put before it.

    Args:
        text: What was sent.
        name: Of the field it was sent in.
        hint: What to do where it is none.

    Raises:
        RequestError: it is too long, or no base64.
    """
    if len(text) > MAX_BASE64:
        raise RequestError(f"The picture has more than {MAX_BYTES:,} bytes.", hint="Send a smaller one.")
    payload = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode("".join(payload.split()), validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(f"`{name}` is no base64.", hint=hint) from None


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise RequestError(f"There is no file {path}.", hint="Give the path of a picture.")
        # A file may be larger than memory.
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no path"
        raise RequestError(
            f"{str(path)[:200]} cannot be read: {reason}.", hint="Give the path of a picture."
        ) from None


def _upright(data: bytes, png: bytes) -> bytes:
    """The converted picture, turned as cameras say it should be."""
    with opened(data) as original:
        turned = upright(original)
        if turned is original:
            return png
        out = io.BytesIO()
        turned.convert("RGB").save(out, "PNG")
    return out.getvalue()


def _without_metadata(png: bytes) -> Image.Image:
    """The first frame's pixels alone; what is transparent stays so, since editors may paint there."""
    with opened(png) as picture:
        sees_through = "A" in picture.getbands() or "transparency" in picture.info
        turned = upright(picture)
        if turned.mode.startswith("I"):
            # Pillow would cut 16 bits off at 255 instead of scaling them.
            turned = turned.convert("I").point(lambda value: value * (1 / 256)).convert("L")
        plain = turned.convert("RGBA" if sees_through else "RGB")
    plain.info = {}
    return plain
