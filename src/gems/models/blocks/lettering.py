"""Draw and read texts on plates, glyph by glyph."""

from __future__ import annotations

import math
import string
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

ALPHABET = string.ascii_letters + string.digits + "!?&+-#%"
"""Characters that can be drawn; others are left out."""
PLATE_HEIGHT = 1.7
"""Height of a plate without its outline, in font sizes."""
_REFERENCE = 64
_LINE = 1.5
_GAP = 0.12
_BLANK = 0.42
_PADDING = 0.35
_GRID = (36, 20)

Mask = NDArray[np.float64]


@cache
def _glyphs(size: int) -> dict[str, Image.Image]:
    """Draw each character on a strip of the full line height, cut to its columns."""
    font = ImageFont.load_default(size)
    strips: dict[str, Image.Image] = {}
    for character in ALPHABET:
        strip = Image.new("L", (size * 2, math.ceil(size * _LINE)), 0)
        ImageDraw.Draw(strip).text((size // 2, 0), character, fill=255, font=font)
        box = strip.getbbox()
        if box is not None:
            strips[character] = strip.crop((box[0], 0, box[2], strip.height))
    return strips


def keep_writable(word: str) -> str:
    """Keep the characters of `word` that can be drawn, and blanks between them."""
    kept = "".join(c if c in ALPHABET else " " if c.isspace() else "" for c in word)
    return " ".join(kept.split())


def draw_text(word: str, size: int) -> Image.Image:
    """Draw a word of `ALPHABET` and blanks as an `L` image of a line's height; `size` is in pixels."""
    glyphs = _glyphs(size)
    gap, blank = max(2, round(_GAP * size)), round(_BLANK * size)
    widths = [blank if c == " " else glyphs[c].width + gap for c in word]
    line = Image.new("L", (max(1, sum(widths) - gap), math.ceil(size * _LINE)), 0)
    at = 0
    for character, width in zip(word, widths, strict=True):
        if character != " ":
            line.paste(glyphs[character], (at, 0))
        at += width
    return line


def plate_extent(word: str, size: int) -> tuple[float, float]:
    """Return width and height in pixels of a plate for `word`, without its outline."""
    return draw_text(word, size).width + 2 * _PADDING * size, PLATE_HEIGHT * size


def line_top(height: float) -> float:
    """Return the distance in pixels of the line of glyphs from the upper edge of a plate."""
    return 0.18 * height / PLATE_HEIGHT


def plate_padding(size: int) -> float:
    """Return the free pixels left of the first glyph."""
    return _PADDING * size


@cache
def _glyph_templates() -> tuple[str, NDArray[np.float64], NDArray[np.float64]]:
    strips = _glyphs(_REFERENCE)
    grids = [_resize_to_grid(np.asarray(strip, dtype=np.float64) / 255) for strip in strips.values()]
    widths = [strip.width / _REFERENCE for strip in strips.values()]
    return "".join(strips), np.stack(grids), np.array(widths)


def _resize_to_grid(mask: Mask) -> Mask:
    picture = Image.fromarray(np.round(mask * 255).astype(np.uint8))
    small = picture.resize(
        (_GRID[1], _GRID[0]), Image.Resampling.BOX if mask.shape[0] > 60 else Image.Resampling.BILINEAR
    )
    return np.asarray(small, dtype=np.float64) / 255


def read_plate(letters: Mask) -> str:
    """Read a plate from its coverage in [0, 1] without the outline, of shape (height, width)."""
    size = letters.shape[0] / PLATE_HEIGHT
    top = round(line_top(letters.shape[0]))
    line = letters[top : top + math.ceil(size * _LINE)]
    inked = np.flatnonzero(line.max(axis=0, initial=0) > 0.35)
    if not inked.size:
        return ""
    breaks = np.flatnonzero(np.diff(inked) > 1)
    starts, ends = np.r_[inked[0], inked[breaks + 1]], np.r_[inked[breaks], inked[-1]]
    word, previous = "", None
    for start, end in zip(starts, ends, strict=True):
        if previous is not None and start - previous - 1 > (_GAP + _BLANK * 0.55) * size:
            word += " "
        word += _read_glyph(line[:, start : end + 1], size)
        previous = end
    return word


def _read_glyph(cell: Mask, size: float) -> str:
    names, grids, widths = _glyph_templates()
    distance = np.abs(grids - _resize_to_grid(cell)).mean(axis=(1, 2)) + 0.5 * np.abs(
        widths - cell.shape[1] / size
    )
    return names[int(distance.argmin())]
