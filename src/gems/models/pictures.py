"""Image bytes from outside, opened and verified before they are believed."""

from __future__ import annotations

import io
import threading
import warnings

from PIL import Image, UnidentifiedImageError

from gems.errors import InvalidImageError

MAX_PIXELS = 64_000_000
"""Largest picture that is opened: 8000x8000, against decompression bombs."""

_FILTERS = threading.Lock()
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def verified_png(data: bytes, origin: str) -> tuple[bytes, int, int]:
    """PNG bytes, width and height in pixels of a picture; see `verified`."""
    png, picture = verified(data, origin)
    return png, picture.width, picture.height


def verified(data: bytes, origin: str) -> tuple[bytes, Image.Image]:
    """PNG bytes of a picture in any common format, and the picture itself with its pixels loaded.

    PNG bytes are handed on untouched; other formats are converted. Blocking: call it in a thread.

    Args:
        data: What came.
        origin: Where it came from, for the message.

    Raises:
        InvalidImageError: `data` is no whole picture, or has more than `MAX_PIXELS` pixels.
    """
    try:
        with opened(data) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise InvalidImageError(
                    f"{origin} sent a picture of {width}x{height} pixels, more than {MAX_PIXELS}."
                )
            picture.load()
            if picture.format == "PNG":
                return data, picture
            converted = io.BytesIO()
            plain = picture.convert("RGB")
            plain.save(converted, "PNG")
            return converted.getvalue(), plain
    except Image.DecompressionBombError as error:
        raise InvalidImageError(f"{origin} sent a picture that is too large to open: {error}.") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InvalidImageError(
            f"{origin} sent {len(data)} bytes that are no whole image, beginning with {data[:48]!r}."
        ) from error


def upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its camera says it should be; as it is where nothing readable says so."""
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            turn = _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
        except (OSError, SyntaxError, ValueError):
            # What is written beside the pixels may be damaged where they are whole.
            turn = None
    return picture if turn is None else picture.transpose(turn)


def opened(data: bytes) -> Image.Image:
    """A PNG, JPEG or WebP picture with its header read, whatever stands in it.

    Pillow would warn at a pixel limit of its own and at bad EXIF.
    """
    # The filters belong to the whole process: threads that changed them side by side would undo each other.
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP"])
