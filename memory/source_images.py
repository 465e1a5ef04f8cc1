"""Read and check images that users pass as files, bytes or base64."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from PIL import Image

from gems.errors import InvalidImageError, MissingExtraError, RequestError
from gems.memory.images import ImageStore
from gems.models.images import FORMATS, MAX_PIXELS, encode_png, unpack_base64, verify_image
from gems.models.masks import read_mask

MAX_BYTES = 50_000_000
"""Maximum size of an image file."""
MAX_BASE64 = MAX_BYTES * 3 // 2
"""Maximum number of base64 characters."""


@dataclass(frozen=True)
class SourceImage:
    """An image to edit: RGB or RGBA, upright, without metadata; or its mask."""

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
    _, picture = _read(given)
    plain = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    plain.info = {}
    out = io.BytesIO()
    plain.save(out, "PNG")
    return SourceImage(out.getvalue(), *plain.size)


def read_mask_image(given: bytes | Path, size: tuple[int, int]) -> SourceImage:
    """Read a mask for an image of `size`, in black and white; RequestError if it cannot be used. Blocking."""
    if not isinstance(given, bytes | Path):
        raise RequestError("The mask is not an image.", hint="Pass a pathlib.Path, or the mask's bytes.")
    data = _read_file(given) if isinstance(given, Path) else given
    if len(data) > MAX_BYTES:
        raise RequestError(f"The mask has more than {MAX_BYTES:,} bytes.", hint="Send a smaller image.")
    return SourceImage(encode_png(read_mask(data, size)), *size)


async def store_source(source: SourceImage, images: ImageStore) -> None:
    """Store an image to edit; StorageError if it cannot be written, since memory ends with this process."""
    await images.put(source.png)
    if (fault := images.unsaved.get(source.id)) is not None:
        raise fault


def read_png(image: bytes | Path) -> bytes:
    """Return a user's image as PNG bytes, upright and in sRGB; RequestError if it cannot be read. Blocking."""
    return _read(image)[0]


def _read(image: bytes | Path) -> tuple[bytes, Image.Image]:
    name = image.name if isinstance(image, Path) else "The image"
    data = _read_file(image) if isinstance(image, Path) else image
    if len(data) > MAX_BYTES:
        raise RequestError(f"{name} has more than {MAX_BYTES:,} bytes.", hint="Send a smaller image.")
    try:
        return verify_image(data, name)
    except MissingExtraError as error:
        hint = f"Use PNG or JPEG. {error.hint}, where GEMS runs."
        raise RequestError(f"{name} is a HEIC image, which this installation cannot read.", hint=hint) from None
    except InvalidImageError as error:
        # The content of a file that is not an image may be private, so it is not quoted.
        if error.__cause__ is None or isinstance(error.__cause__, Image.DecompressionBombError):
            raise RequestError(f"{name} has more than {MAX_PIXELS:,} pixels.", hint="Send a smaller image.") from None
        raise RequestError(f"{name} is not a valid image or is truncated.", hint=f"Use {FORMATS}.") from None


def decode_source_image(text: str, name: str, hint: str = "") -> SourceImage:
    """Read an image to edit from base64 or a data URL; RequestError if it is invalid. Blocking."""
    return read_source_image(decode_base64(text, name, hint))


def decode_base64(text: str, name: str, hint: str = "") -> bytes:
    """Decode base64 as `unpack_base64` does; RequestError, with `hint`, if it is invalid or too long."""
    if len(text) > MAX_BASE64:
        raise RequestError(f"The image has more than {MAX_BYTES:,} bytes.", hint="Send a smaller image.")
    try:
        return unpack_base64(text)
    except ValueError:
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
