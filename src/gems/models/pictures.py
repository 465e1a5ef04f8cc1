"""Open and verify untrusted image bytes."""

from __future__ import annotations

import io
import threading
import warnings

from PIL import Image, UnidentifiedImageError

from gems.errors import InvalidImageError

MAX_PIXELS = 64_000_000
"""Largest accepted image, 8000x8000, against decompression bombs."""

_WARNINGS_LOCK = threading.Lock()
_ORIENTATION = 0x0112
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def verify_png(data: bytes, origin: str) -> tuple[bytes, int, int]:
    """Return the PNG bytes of `verify_image`, and width and height in pixels."""
    png, picture = verify_image(data, origin)
    return png, picture.width, picture.height


def verify_image(data: bytes, origin: str) -> tuple[bytes, Image.Image]:
    """Return an image's PNG bytes, and the image with its pixels loaded. Blocking: call it in a thread.

    PNG bytes are returned unchanged; JPEG and WebP are converted. Raises `InvalidImageError`, which names
    `origin`, if `data` is not a complete image or has more than `MAX_PIXELS` pixels.
    """
    try:
        with open_image(data) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise InvalidImageError(
                    f"{origin} sent an image of {width}x{height} pixels, more than {MAX_PIXELS}."
                )
            picture.load()
            if picture.format == "PNG":
                return data, picture
            converted = io.BytesIO()
            plain = picture.convert("RGB")
            plain.save(converted, "PNG")
            return converted.getvalue(), plain
    except Image.DecompressionBombError as error:
        raise InvalidImageError(f"{origin} sent an image that is too large to open: {error}.") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InvalidImageError(
            f"{origin} sent {len(data)} bytes that are not a valid image or are truncated, "
            f"beginning with {data[:48]!r}."
        ) from error


def apply_orientation(picture: Image.Image) -> Image.Image:
    """Apply the EXIF orientation, if there is one that can be read."""
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            method = _TRANSPOSES.get(picture.getexif().get(_ORIENTATION, 1))
        except (OSError, SyntaxError, ValueError):
            # EXIF may be damaged although the pixels are complete.
            method = None
    return picture if method is None else picture.transpose(method)


def open_image(data: bytes) -> Image.Image:
    """Open a PNG, JPEG or WebP image and read its header, without Pillow's warnings about size and EXIF."""
    # Warning filters are global: threads that change them at the same time would undo each other.
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP"])
