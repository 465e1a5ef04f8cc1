"""Verify, convert and downscale images."""

from __future__ import annotations

import asyncio
import io
import threading
import warnings
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping

from PIL import Image, UnidentifiedImageError

from gems.errors import InvalidImageError

# Measured on coloured text over an image: 37 dB chroma PSNR; with 4:2:0 at most 29 dB at any quality.
_JPEG_QUALITY = 85
_CACHE_BYTES = 32 * 2**20
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


class EncodedImageCache:
    """LRU cache of encoded images, up to `most_bytes`: a round shows the same image several times."""

    def __init__(self, most_bytes: int = _CACHE_BYTES) -> None:
        self._free_bytes = most_bytes
        self._entries: OrderedDict[tuple[str, int], tuple[bytes, str]] = OrderedDict()

    async def encode(self, image: str, side: int | None, load: Callable[[str], Awaitable[bytes]]) -> tuple[bytes, str]:
        """Return `encode_image` of the PNG that `load(image)` returns. A whole PNG is not cached."""
        if side is None:
            return encode_image(await load(image), None)
        if (image, side) in self._entries:
            self._entries.move_to_end((image, side))
            return self._entries[image, side]
        encoded = await asyncio.to_thread(encode_image, await load(image), side)
        self._add((image, side), encoded)
        return encoded

    def store(self, image: str, encoded: Mapping[int, bytes]) -> None:
        """Add JPEGs of an image by longest side, as `encode_jpegs` returns them."""
        for side, data in encoded.items():
            self._add((image, side), (data, "image/jpeg"))

    def _add(self, key: tuple[str, int], encoded: tuple[bytes, str]) -> None:
        if key not in self._entries:
            self._entries[key] = encoded
            self._free_bytes -= len(encoded[0])
        while self._free_bytes < 0:
            _, (data, _) = self._entries.popitem(last=False)
            self._free_bytes += len(data)


def encode_jpegs(picture: Image.Image, sides: Iterable[int]) -> dict[int, bytes]:
    """Encode an opened image as `encode_image` does, once per longest side. Blocking."""
    flat = _flatten(picture)
    return {side: _encode_jpeg(flat, side) for side in sides}


def encode_image(png: bytes, side: int | None) -> tuple[bytes, str]:
    """Return the image for a chat model, and its media type. Blocking: call it in a thread.

    JPEG with full colour resolution, since judges are asked about colours, with its longest side scaled
    down to `side` pixels; the PNG itself if `side` is None.
    """
    if side is None:
        return png, "image/png"
    with Image.open(io.BytesIO(png)) as opened:
        picture = _flatten(opened)
    return _encode_jpeg(picture, side), "image/jpeg"


def _encode_jpeg(picture: Image.Image, side: int) -> bytes:
    if max(picture.size) > side:
        picture = picture.copy()
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return out.getvalue()


def shrink_image(data: bytes, times: int) -> bytes:
    """Return an encoded image as JPEG with its sides halved so often. Blocking."""
    with Image.open(io.BytesIO(data)) as opened:
        picture = _flatten(opened)
    return _encode_jpeg(picture, max(32, max(picture.size) >> times))


def _flatten(picture: Image.Image) -> Image.Image:
    """Convert to RGB; transparent pixels are composited on white."""
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        ground = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(ground, layered).convert("RGB")
    return picture.convert("RGB")


def verify_png(data: bytes, origin: str) -> tuple[bytes, int, int]:
    """Return the PNG bytes of `verify_image`, and width and height in pixels. Blocking."""
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
                raise InvalidImageError(f"{origin} sent an image of {width}x{height} pixels, more than {MAX_PIXELS}.")
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
