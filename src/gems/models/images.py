"""Images encoded for showing them to a chat model."""

from __future__ import annotations

import asyncio
import io
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping

from PIL import Image

# On coloured text over a picture this keeps 37 dB of the colours, 4:2:0 no more than 29 dB at any quality.
_QUALITY = 85
_MOST_BYTES = 32 * 2**20


class Encodings:
    """The last encoded pictures, since the same one is shown several times within a round.

    Args:
        most_bytes: What they may take together; all runs of a process share it.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._room = most_bytes
        self._held: OrderedDict[tuple[str, int], tuple[bytes, str]] = OrderedDict()

    async def encoded(
        self, image: str, side: int | None, load: Callable[[str], Awaitable[bytes]]
    ) -> tuple[bytes, str]:
        """See `encoded_picture`. A whole PNG is not held, since it lies on the disk as it is.

        Args:
            image: Names the picture.
            side: Longest side in pixels, None for the whole PNG.
            load: Gives the PNG bytes of `image`.
        """
        if side is None:
            return encoded_picture(await load(image), None)
        if (image, side) in self._held:
            self._held.move_to_end((image, side))
            return self._held[image, side]
        found = await asyncio.to_thread(encoded_picture, await load(image), side)
        self._hold((image, side), found)
        return found

    def hold(self, image: str, shown: Mapping[int, bytes]) -> None:
        """Take JPEGs of an image by their longest side; see `jpegs`."""
        for side, data in shown.items():
            self._hold((image, side), (data, "image/jpeg"))

    def _hold(self, key: tuple[str, int], found: tuple[bytes, str]) -> None:
        if key not in self._held:
            self._held[key] = found
            self._room -= len(found[0])
        while self._room < 0:
            _, (data, _) = self._held.popitem(last=False)
            self._room += len(data)


def jpegs(picture: Image.Image, sides: Iterable[int]) -> dict[int, bytes]:
    """What `encoded_picture` makes of a picture that is open already, by longest side. Blocking."""
    shown = _opaque(picture)
    return {side: _jpeg(shown, side) for side in sides}


def encoded_picture(png: bytes, side: int | None) -> tuple[bytes, str]:
    """The picture as a chat model should get it, and its media type. Blocking: call it in a thread.

    JPEG with full colour resolution, since judges are asked about colours, and no larger than needed; the
    PNG itself where `side` is None.

    Args:
        png: PNG bytes.
        side: Longest side in pixels; larger pictures are scaled down.
    """
    if side is None:
        return png, "image/png"
    with Image.open(io.BytesIO(png)) as opened:
        picture = _opaque(opened)
    return _jpeg(picture, side), "image/jpeg"


def _jpeg(picture: Image.Image, side: int) -> bytes:
    if max(picture.size) > side:
        picture = picture.copy()
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_QUALITY, subsampling=0)
    return out.getvalue()


def _opaque(picture: Image.Image) -> Image.Image:
    """RGB, with what is transparent shown on white as viewers show it."""
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        ground = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(ground, layered).convert("RGB")
    return picture.convert("RGB")
