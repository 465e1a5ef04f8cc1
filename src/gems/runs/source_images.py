"""Read and check images that users pass as files, bytes or base64."""

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
from gems.models.images import MAX_PIXELS, apply_orientation, open_image, verify_png

MAX_BYTES = 50_000_000
"""Maximum size of an image file."""
MAX_BASE64 = MAX_BYTES * 3 // 2
"""Maximum number of base64 characters."""


@dataclass(frozen=True)
class SourceImage:
    """An image to edit: RGB or RGBA, upright, without metadata."""

    png: bytes = field(repr=False)
    width: int
    height: int

    @cached_property
    def id(self) -> str:
        """Its id in an image store."""
        return hashlib.sha256(self.png).hexdigest()


def read_source_image(given: bytes | Path | SourceImage) -> SourceImage:
    """Read an image to edit, at most 50 MB and 64 million pixels; RequestError if it is invalid. Blocking."""
    if isinstance(given, SourceImage):
        return given
    if not isinstance(given, bytes | Path):
        # A string could be a path, which remote callers must never be able to read.
        raise RequestError("The source is not an image.", hint="Pass a pathlib.Path, or the image's bytes.")
    plain = _without_metadata(read_png(given))
    out = io.BytesIO()
    plain.save(out, "PNG")
    return SourceImage(out.getvalue(), *plain.size)


async def store_source(source: SourceImage, images: ImageStore) -> None:
    """Store an image to edit; StorageError if it cannot be written, since memory ends with this process."""
    await images.put(source.png)
    if (fault := images.unsaved.get(source.id)) is not None:
        raise fault


def read_png(image: bytes | Path) -> bytes:
    """Return upright PNG bytes of a PNG, JPEG or WebP image; RequestError if it cannot be read. Blocking."""
    name = image.name if isinstance(image, Path) else "The image"
    data = _read_file(image) if isinstance(image, Path) else image
    if len(data) > MAX_BYTES:
        raise RequestError(f"{name} has more than {MAX_BYTES:,} bytes.", hint="Send a smaller image.")
    try:
        png, _, _ = verify_png(data, name)
    except InvalidImageError as error:
        # The content of a file that is not an image may be private, so it is not quoted.
        if error.__cause__ is None or isinstance(error.__cause__, Image.DecompressionBombError):
            raise RequestError(f"{name} has more than {MAX_PIXELS:,} pixels.", hint="Send a smaller image.") from None
        raise RequestError(f"{name} is not a valid image or is truncated.", hint="Use PNG, JPEG or WebP.") from None
    return png if png is data else _rotate_upright(data, png)


def decode_base64(text: str, name: str, hint: str = "") -> bytes:
    """Decode base64, with or without a data URL's prefix; RequestError, with `hint`, if it is invalid."""
    if len(text) > MAX_BASE64:
        raise RequestError(f"The image has more than {MAX_BYTES:,} bytes.", hint="Send a smaller image.")
    payload = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode("".join(payload.split()), validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(f"`{name}` is not valid base64.", hint=hint) from None


def _read_file(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise RequestError(f"There is no file {path}.", hint="Pass the path of an image.")
        # A file may be larger than memory.
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not a valid path"
        raise RequestError(f"{str(path)[:200]} cannot be read: {reason}.", hint="Pass the path of an image.") from None


def _rotate_upright(data: bytes, png: bytes) -> bytes:
    """Rotate the converted image as its EXIF orientation says."""
    with open_image(data) as original:
        turned = apply_orientation(original)
        if turned is original:
            return png
        out = io.BytesIO()
        turned.convert("RGB").save(out, "PNG")
    return out.getvalue()


def _without_metadata(png: bytes) -> Image.Image:
    """Return the first frame's pixels alone; transparency is kept, since editors may paint there."""
    with open_image(png) as source:
        has_alpha = "A" in source.getbands() or "transparency" in source.info
        turned = apply_orientation(source)
        if turned.mode.startswith("I"):
            # Pillow would cut 16 bits off at 255 instead of scaling them.
            turned = turned.convert("I").point(lambda value: value * (1 / 256)).convert("L")
        plain = turned.convert("RGBA" if has_alpha else "RGB")
    plain.info = {}
    return plain
