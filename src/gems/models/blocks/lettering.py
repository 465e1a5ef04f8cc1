"""Texts on plates: written glyph by glyph so that they can be read again glyph by glyph."""

from __future__ import annotations

import math
import string
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

ALPHABET = string.ascii_letters + string.digits + "!?&+-#%"
"""What can be written; other characters of a text are left out."""
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
    """Each character on a strip of the full line height, cut to its own columns."""
    font = ImageFont.load_default(size)
    strips: dict[str, Image.Image] = {}
    for character in ALPHABET:
        strip = Image.new("L", (size * 2, math.ceil(size * _LINE)), 0)
        ImageDraw.Draw(strip).text((size // 2, 0), character, fill=255, font=font)
        box = strip.getbbox()
        if box is not None:
            strips[character] = strip.crop((box[0], 0, box[2], strip.height))
    return strips


def writable(word: str) -> str:
    """The characters of `word` that can be written, blanks kept between them."""
    kept = "".join(c if c in ALPHABET else " " if c.isspace() else "" for c in word)
    return " ".join(kept.split())


def written(word: str, size: int) -> Image.Image:
    """Coverage of a word as an `L` picture as high as a line.

    Args:
        word: Of `ALPHABET` and blanks.
        size: Font size in pixels.
    """
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
    """Width and height in pixels of a plate for `word`, without its outline."""
    return written(word, size).width + 2 * _PADDING * size, PLATE_HEIGHT * size


def line_top(height: float) -> float:
    """Where the line of glyphs begins below the upper edge of a plate of `height` pixels."""
    return 0.18 * height / PLATE_HEIGHT


def plate_padding(size: int) -> float:
    """Free pixels left of the first glyph."""
    return _PADDING * size


@cache
def _templates() -> tuple[str, NDArray[np.float64], NDArray[np.float64]]:
    strips = _glyphs(_REFERENCE)
    grids = [_gridded(np.asarray(strip, dtype=np.float64) / 255) for strip in strips.values()]
    widths = [strip.width / _REFERENCE for strip in strips.values()]
    return "".join(strips), np.stack(grids), np.array(widths)


def _gridded(mask: Mask) -> Mask:
    picture = Image.fromarray(np.round(mask * 255).astype(np.uint8))
    small = picture.resize(
        (_GRID[1], _GRID[0]), Image.Resampling.BOX if mask.shape[0] > 60 else Image.Resampling.BILINEAR
    )
    return np.asarray(small, dtype=np.float64) / 255


def read_plate(letters: Mask) -> str:
    """Read a plate again.

    Args:
        letters: Coverage in [0, 1] of the plate without its outline, array of shape (height, width).
    """
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
        word += _glyph(line[:, start : end + 1], size)
        previous = end
    return word


def _glyph(cell: Mask, size: float) -> str:
    names, grids, widths = _templates()
    distance = np.abs(grids - _gridded(cell)).mean(axis=(1, 2)) + 0.5 * np.abs(widths - cell.shape[1] / size)
    return names[int(distance.argmin())]
