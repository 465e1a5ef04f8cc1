"""Images encoded for showing them to a chat model."""

from __future__ import annotations

import io

from PIL import Image

_QUALITY = 90


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
    if max(picture.size) > side:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_QUALITY, subsampling=0)
    return out.getvalue(), "image/jpeg"


def _opaque(picture: Image.Image) -> Image.Image:
    """RGB, with what is transparent shown on white as viewers show it."""
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        ground = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(ground, layered).convert("RGB")
    return picture.convert("RGB")
