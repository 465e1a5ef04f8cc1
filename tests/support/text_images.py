"""Pictures with text in them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont


def chinese_font() -> Path | None:
    """A font with Chinese characters, where the machine has one."""
    fonts = Path("/usr/share/fonts")
    found = [*sorted(fonts.glob("**/wqy-*.tt[cf]")), *sorted(fonts.glob("**/NotoSansCJK*.tt[cf]"))]
    return found[0] if found else None


def drawn(
    lines: Sequence[str],
    *,
    size: int = 44,
    width: int = 640,
    height: int = 480,
    ink: str = "black",
    ground: str | tuple[int, int, int, int] = "white",
    font: Path | None = None,
) -> bytes:
    """The PNG of lines of text."""
    picture = Image.new("RGBA", (width, height), ground)
    face = ImageFont.truetype(font, size) if font else ImageFont.load_default(size)
    for number, line in enumerate(lines):
        ImageDraw.Draw(picture).text((size, size + number * size * 1.7), line, fill=ink, font=face)
    return as_png(picture)


def as_png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
