"""Decode images of every origin alike, and encode them for chat models."""

from __future__ import annotations

import asyncio
import io
import re
import struct
import threading
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import pybase64
from PIL import Image

from gems.errors import InvalidImageError, MissingExtraError

# Measured on coloured text over an image: 37 dB chroma PSNR; with 4:2:0 at most 29 dB at any quality.
_JPEG_QUALITY = 85
CACHED_BYTES = 32 * 2**20
"""Encoded images that a process keeps, since a round shows the same one several times."""
MAX_PIXELS = 64_000_000
"""Largest accepted image, 8000x8000, against decompression bombs."""
_STRETCH = 4
"""Longest side of an image for a chat model, in sides of the square that bounds its area."""
FORMATS = "PNG, JPEG, WebP, GIF, AVIF or HEIC"
"""Formats that are accepted, for messages."""
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF")
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_CONTAINER_BRANDS = {b"mif1", b"msf1", b"heif"}
"""Of files with images of any kind: other brands in the file say which."""
_DECODING_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, ArithmeticError, RuntimeError, TypeError, struct.error,
    zlib.error,
)  # fmt: skip
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTH = 24
"""Position of the bit depth in a PNG."""
_MAX_PROFILE = 2**20
"""Largest unpacked colour profile of a PNG; Pillow rejects the whole image for a larger one."""
_DATA_URL = re.compile(r"data:[^,]{0,200},|base64,", re.IGNORECASE)
_BASE64_ALPHABET = bytes.maketrans(b"-_", b"+/")
_BLANKS = b" \t\r\n\f\v"
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

    def __init__(self, most_bytes: int = CACHED_BYTES) -> None:
        self._free_bytes = most_bytes
        self._entries: OrderedDict[tuple[str, int], tuple[bytes, str]] = OrderedDict()

    async def encode(self, image: str, side: int | None, load: Callable[[str], Awaitable[bytes]]) -> tuple[bytes, str]:
        """Return `encode_image` of the PNG that `load(image)` returns. A whole PNG is not cached."""
        if side is None:
            return await asyncio.to_thread(encode_image, await load(image), None)
        if (image, side) in self._entries:
            self._entries.move_to_end((image, side))
            return self._entries[image, side]
        encoded = await asyncio.to_thread(encode_image, await load(image), side)
        self._add((image, side), encoded)
        return encoded

    def store(self, image: str, encoded: Mapping[int, bytes]) -> None:
        """Add JPEGs of an image by side, as `encode_jpegs` returns them."""
        for side, data in encoded.items():
            self._add((image, side), (data, "image/jpeg"))

    def _add(self, key: tuple[str, int], encoded: tuple[bytes, str]) -> None:
        if key not in self._entries:
            self._entries[key] = encoded
            self._free_bytes -= len(encoded[0])
        while self._free_bytes < 0:
            _, (data, _) = self._entries.popitem(last=False)
            self._free_bytes += len(data)


def unpack_base64(text: str) -> bytes:
    """Decode base64 as programs write it; ValueError if it is invalid.

    It may have line breaks and blanks, quotes around it, a data URL's prefix, the alphabet of URLs, and no padding.
    """
    with suppress(ValueError):
        # Nearly all is plain, and each step below copies megabytes.
        return pybase64.b64decode(text, validate=True)
    # Python's own way to write bytes and the line breaks of JSON that was escaped twice.
    text = text.strip().removeprefix("b'").strip("\"'`<> ").replace("\\n", "").replace("\\r", "").replace("\\/", "/")
    payload = text[found.end() :] if (found := _DATA_URL.match(text)) else text
    payload = unquote(payload) if "%" in payload else payload
    data = payload.encode("ascii").translate(_BASE64_ALPHABET, _BLANKS).rstrip(b"=")
    return pybase64.b64decode(data + b"=" * (-len(data) % 4), validate=True)


def encode_jpegs(picture: Image.Image, sides: Iterable[int]) -> dict[int, bytes]:
    """Encode an opened image as `encode_image` does, once per side. Blocking."""
    flat = flatten_image(picture)
    return {side: _encode_jpeg(flat, fit_size(flat.size, side)) for side in sides}


def encode_image(png: bytes, side: int | None) -> tuple[bytes, str]:
    """Return the image for a chat model, on white, and its media type. Blocking: call it in a thread.

    JPEG with full colour resolution, since judges are asked about colours, scaled down to the area of a square of
    `side` pixels; PNG of full size if `side` is None, and the given one if nothing in it is transparent.
    """
    if side is not None:
        flat = open_flat(png)
        return _encode_jpeg(flat, fit_size(flat.size, side)), "image/jpeg"
    with open_image(png) as opened:
        may_be_clear = opened.has_transparency_data
    return encode_png(open_flat(png)) if may_be_clear else png, "image/png"


def fit_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the size of an image scaled down to the area of a square of `side` pixels, of at most four sides.

    Area is what models read and are paid for: a bound of the longest side would take most pixels from wide images.
    """
    width, height = size
    scale = min(1.0, side / (width * height) ** 0.5, _STRETCH * side / max(size))
    return max(1, int(width * scale + 1e-6)), max(1, int(height * scale + 1e-6))


def shrink_image(data: bytes, times: int) -> bytes:
    """Return an encoded image as JPEG with its sides halved so often. Blocking."""
    flat = open_flat(data)
    scale = min(1.0, max(2.0**-times, 32 / max(flat.size)))
    return _encode_jpeg(flat, (max(1, int(flat.width * scale)), max(1, int(flat.height * scale))))


def _encode_jpeg(picture: Image.Image, size: tuple[int, int]) -> bytes:
    if size != picture.size:
        # Averages whole pixels first, which at half the size takes a tenth of the time.
        picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=1.0)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return out.getvalue()


def encode_png(picture: Image.Image) -> bytes:
    """Return the image as PNG. Blocking."""
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def flatten_image(picture: Image.Image) -> Image.Image:
    """Convert to RGB; transparent pixels are composited on white."""
    if picture.has_transparency_data:
        layered = picture.convert("RGBA")
        ground = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(ground, layered).convert("RGB")
    return picture.convert("RGB")


def open_flat(data: bytes, origin: str = "The store") -> Image.Image:
    """Return the image of `decode_image` in RGB, on white. Blocking."""
    return flatten_image(decode_image(data, origin))


def verify_image(data: bytes, origin: str) -> tuple[bytes, Image.Image]:
    """Return PNG bytes of the image of `decode_image`, and that image. Blocking: call it in a thread.

    Bytes of a PNG are returned without its texts, and otherwise unchanged if they hold these very pixels.
    """
    data = _without_texts(data)
    picture, is_plain = _decode(data, origin)
    return (data if is_plain else encode_png(picture)), picture


def decode_image(data: bytes, origin: str) -> Image.Image:
    """Return an image with its pixels loaded: upright, in sRGB with 8 bits, with its transparency. Blocking.

    Of an animation this is the first frame. The mode is RGB or RGBA, or that of a PNG with few colours.

    Raises:
        InvalidImageError: `data` is not a complete image of the `FORMATS`, or has more than `MAX_PIXELS` pixels; names
            `origin`.
        MissingExtraError: it is a HEIC image, and the package that reads them is not installed.
    """
    return _decode(_without_texts(data), origin)[0]


def _decode(data: bytes, origin: str) -> tuple[Image.Image, bool]:
    """Return the image, and whether `data` is a PNG of exactly this image."""
    try:
        with open_image(data) as opened:
            width, height = opened.size
            if width * height > MAX_PIXELS:
                raise InvalidImageError(f"{origin} sent an image of {width}x{height} pixels, more than {MAX_PIXELS}.")
            opened.load()
            method, profile = _find_transpose(opened), _find_profile(opened)
            is_plain = opened.format == "PNG" and data[_PNG_DEPTH] <= 8 and not getattr(opened, "is_animated", False)
            if is_plain and method is None and profile is None:
                return opened, True
            picture = _to_rgb(opened, profile)
            picture = picture if method is None else picture.transpose(method)
    except Image.DecompressionBombError as error:
        raise InvalidImageError(f"{origin} sent an image that is too large to open: {error}.") from error
    except _DECODING_ERRORS as error:
        raise InvalidImageError(
            f"{origin} sent {len(data)} bytes that are not a valid image or are truncated, "
            f"beginning with {data[:48]!r}."
        ) from error
    # What the file says besides its pixels is done with, and would be written again.
    picture.info = {}
    return picture, False


def open_image(data: bytes) -> Image.Image:
    """Open an image of one of the `FORMATS` and read its header, without Pillow's warnings about size and EXIF."""
    formats = _find_formats(data)
    # Warning filters are global: threads that change them at the same time would undo each other.
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(data), formats=formats)


def _find_formats(data: bytes) -> tuple[str, ...]:
    """Return Pillow's names of the formats that the data may have; MissingExtraError for HEIC without its package."""
    if data[4:8] != b"ftyp":
        return _FORMATS
    brands = {data[at : at + 4] for at in range(8, min(int.from_bytes(data[:4]), len(data), 256), 4)}
    if {b"avif", b"avis"} & brands or not (_HEIC_BRANDS & brands or data[8:12] in _CONTAINER_BRANDS):
        return ("AVIF",)
    try:
        from pillow_heif import register_heif_opener  # noqa: PLC0415 - an extra, loaded with the first such image
    except ImportError:
        raise MissingExtraError("Reading HEIC images", "heif") from None
    register_heif_opener(thumbnails=False)
    return ("HEIF",)


def _without_texts(data: bytes) -> bytes:
    """Return a PNG without texts and without colour profiles too large to read; other data unchanged.

    Pillow unpacks texts, and rejects an image whose texts have more than 1 MB.
    """
    if not data.startswith(_PNG_SIGNATURE):
        return data
    kept, start, at, end = [], 0, len(_PNG_SIGNATURE), len(data)
    while at + 12 <= end:
        kind, after = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4])
        is_unread = kind in (b"tEXt", b"zTXt", b"iTXt") or (
            kind == b"iCCP" and not _is_readable_profile(data[at + 8 : after - 4])
        )
        if is_unread:
            kept.append(data[start:at])
            start = after
        at = after
        if kind == b"IEND":
            end = at
    return data if not kept and end >= len(data) else b"".join((*kept, data[start:end]))


def _is_readable_profile(chunk: bytes) -> bool:
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(chunk.partition(b"\0")[2][1:], _MAX_PROFILE)
    except zlib.error:
        return False
    return not unpacker.unconsumed_tail


def _find_transpose(picture: Image.Image) -> Image.Transpose | None:
    """Return how to turn the image upright, as its EXIF data say."""
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _TRANSPOSES.get(picture.getexif().get(_ORIENTATION, 1))
        except _DECODING_ERRORS:
            # EXIF may be damaged although the pixels are complete.
            return None


def _find_profile(picture: Image.Image) -> Any:
    """Return the colour profile of an image that is not in sRGB; None if there is none that can be read."""
    if not (stored := picture.info.get("icc_profile")):
        return None
    from PIL import ImageCms  # noqa: PLC0415 - few images have one

    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(stored))
        name = profile.profile.profile_description or ""
    except (ImageCms.PyCMSError, ImportError, *_DECODING_ERRORS):
        # Other programs too show an image with a damaged profile as if it had none.
        return None
    return None if "srgb" in name.lower() else profile


def _to_rgb(picture: Image.Image, profile: Any) -> Image.Image:
    """Return a loaded image in RGB or RGBA, converted from the profile to sRGB if there is one."""
    colours, alpha = _split_alpha(picture)
    if profile is not None:
        from PIL import ImageCms  # noqa: PLC0415

        try:
            srgb = ImageCms.createProfile("sRGB")
            colours = ImageCms.profileToProfile(colours, profile, srgb, outputMode="RGB") or colours
        except (ImageCms.PyCMSError, *_DECODING_ERRORS):
            # The profile is of another kind of image than this one.
            profile = None
    plain = colours.convert("RGB")
    if alpha is not None:
        plain.putalpha(alpha)
    return plain


def _split_alpha(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return an image's colours as L, RGB or CMYK with 8 bits, and its transparency if there is any."""
    clear = picture.info.get("transparency")
    if picture.mode.startswith("I"):
        # 16 bits; Pillow itself would cut them off at 255.
        colours = picture.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
        return colours, None if clear is None else _mask_other_values(picture, clear)
    if isinstance(clear, tuple) and max(clear) > 255:
        # Of 16 bits Pillow keeps the upper 8.
        picture.info["transparency"] = tuple(value >> 8 for value in clear)
    if picture.has_transparency_data:
        layered = picture.convert("RGBA")
        is_grey = picture.mode in ("L", "LA")
        return (layered.getchannel("R") if is_grey else layered.convert("RGB")), layered.getchannel("A")
    return (picture if picture.mode in ("L", "CMYK") else picture.convert("RGB")), None


def _mask_other_values(picture: Image.Image, clear: int) -> Image.Image:
    """Return the transparency of a grey image in which one value is transparent."""
    import numpy as np  # noqa: PLC0415 - very few images need it

    return Image.fromarray(np.where(np.asarray(picture) == clear, 0, 255).astype(np.uint8))
