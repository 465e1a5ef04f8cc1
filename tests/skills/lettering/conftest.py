"""One reader for all tests, and pictures to read."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from gems.skills.lettering import RapidReader

Draw = Callable[..., bytes]


def chinese_font() -> Path | None:
    """A font with Chinese characters, where the machine has one."""
    fonts = Path("/usr/share/fonts")
    found = [
        *sorted(fonts.glob("**/wqy-*.tt[cf]")),
        *sorted(fonts.glob("**/NotoSansCJK*.tt[cf]")),
    ]
    return found[0] if found else None


@pytest.fixture(scope="session")
def reader() -> RapidReader:
    pytest.importorskip("rapidocr")
    return RapidReader()


@pytest.fixture(scope="session")
def draw() -> Draw:
    """Draws lines of text and gives the PNG."""

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
        picture = Image.new("RGBA", (width, height), ground)
        face = ImageFont.truetype(font, size) if font else ImageFont.load_default(size)
        for number, line in enumerate(lines):
            ImageDraw.Draw(picture).text((size, size + number * size * 1.7), line, fill=ink, font=face)
        return as_png(picture)

    return drawn


def as_png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
