"""Draw a scene: shapes, glyphs, textures, shadows."""

from __future__ import annotations

import math
import random
import string
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from gems.models.blocks import vocabulary as words
from gems.models.blocks.scene import Scene, Thing

Points = NDArray[np.float64]

OUTLINE = 0.0098
"""Width of an outline as a share of the image's shorter side."""
PATTERN_CELLS = 5
"""Texture cells along the longer side of a thing."""

ROOM: dict[str, tuple[float, float, float]] = {
    "circle": (0.0, 0.0, 0.64),
    "square": (0.0, 0.0, 0.88),
    "triangle": (0.0, 0.18, 0.40),
    "rectangle": (0.0, 0.0, 0.50),
    "diamond": (0.0, 0.0, 0.38),
    "pentagon": (0.0, 0.05, 0.52),
    "hexagon": (0.0, 0.0, 0.58),
    "star": (0.0, 0.05, 0.32),
    "heart": (0.0, -0.02, 0.37),
    "cross": (0.0, 0.0, 0.30),
    "crescent": (-0.18, 0.0, 0.30),
    "arrow": (0.18, 0.0, 0.23),
}
"""Centre and side of the largest square that things inside may fill."""
_ARM = 0.34
_CORNERS: dict[str, list[tuple[float, float]]] = {
    "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    "rectangle": [(-1, -0.6), (1, -0.6), (1, 0.6), (-1, 0.6)],
    "diamond": [(0, -1), (0.72, 0), (0, 1), (-0.72, 0)],
    "arrow": [(-1, -0.26), (0.1, -0.26), (0.1, -0.68), (1, 0), (0.1, 0.68), (0.1, 0.26), (-1, 0.26)],
    "cross": [
        *((-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM)),
        *((_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM)),
    ],
}
_REGULAR = {"circle": (72, 0), "triangle": (3, -90), "pentagon": (5, -90), "hexagon": (6, 0), "star": (10, -90)}
"""Number of corners and angle of the first one in degrees."""
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
_SHADOW = 0.09


def outline_width(unit: int) -> float:
    """Return the width of outlines in pixels for an image whose shorter side is `unit`."""
    return max(2.0, OUTLINE * unit)


def _regular(corners: int, start: float) -> Points:
    angles = np.radians(start + np.arange(corners) * 360.0 / corners)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _heart() -> Points:
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y], axis=1)


def _crescent() -> Points:
    outer = np.radians(np.linspace(55, 305, 60))
    tip = np.array([np.cos(outer[0]), np.sin(outer[0])])
    # The inner arc passes through both tips, around a centre further right.
    centre = np.array([0.62, 0.0])
    radius = float(np.hypot(*(tip - centre)))
    limit = float(np.degrees(np.arctan2(tip[1], tip[0] - centre[0])))
    inner = np.radians(np.linspace(360 - limit, limit, 50))
    arcs = [
        np.stack([np.cos(outer), np.sin(outer)], axis=1),
        np.stack([centre[0] + radius * np.cos(inner), radius * np.sin(inner)], axis=1),
    ]
    return np.concatenate(arcs)


def _polygon(shape: str) -> Points:
    if shape in _CORNERS:
        return np.array(_CORNERS[shape], dtype=float)
    if shape not in _REGULAR:
        return _heart() if shape == "heart" else _crescent()
    points = _regular(*_REGULAR[shape])
    if shape == "star":
        points[1::2] *= 0.45
    return points


@cache
def polygon(shape: str) -> Points:
    """Return the corners of a shape, of shape (n, 2)."""
    points = _polygon(shape)
    low, high = points.min(axis=0), points.max(axis=0)
    normal: Points = (points - (low + high) / 2) / float((high - low).max())
    normal.setflags(write=False)
    return normal


def extent(shape: str) -> tuple[float, float]:
    """Return width and height of a shape, the longer one being 1."""
    spread = np.ptp(polygon(shape), axis=0)
    return float(spread[0]), float(spread[1])


def masks(shape: str, diameter: float, outline: float, zoom: int = 4) -> tuple[Image.Image, Image.Image]:
    """Draw the coverage of a shape and of its inside without the outline, as two `L` images.

    `diameter` is the longer side in pixels including the outline; `zoom` is the supersampling factor.
    """
    side = int(np.ceil(diameter)) + 2
    middle = side * zoom / 2
    points = polygon(shape) * (diameter - outline) * zoom + middle
    corners = [(float(x), float(y)) for x, y in points]
    width = max(1, round(outline * zoom))
    line = Image.new("L", (side * zoom, side * zoom), 0)
    pen = ImageDraw.Draw(line)
    pen.line([*corners, *corners[:2]], fill=255, width=width, joint="curve")
    whole, inside = line.copy(), Image.new("L", line.size, 0)
    ImageDraw.Draw(whole).polygon(corners, fill=255)
    ImageDraw.Draw(inside).polygon(corners, fill=255)
    inside.paste(0, mask=line)
    return whole.reduce(zoom), inside.reduce(zoom)


def pattern(texture: str, u: Points, v: Points) -> NDArray[np.bool_]:
    """Return where a texture has its second tone; `u`, `v` are distances from the centre in diameters."""
    across, down = u * PATTERN_CELLS, v * PATTERN_CELLS
    if texture == "striped":
        return np.asarray(np.floor(across + down + 0.25) % 2 == 1)
    if texture == "checkered":
        return np.asarray((np.floor(across + 0.5) + np.floor(down + 0.5)) % 2 == 1)
    if texture == "spotted":
        row = np.floor(down * 0.8 + 0.5)
        shifted = across * 0.8 + 0.5 * (row % 2)
        return np.asarray((shifted - np.round(shifted)) ** 2 + (down * 0.8 - row) ** 2 < 0.31**2)
    return np.zeros(np.broadcast(u, v).shape, dtype=bool)


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


def _line_top(height: float) -> int:
    """Return the distance in pixels of the line of glyphs from the upper edge of a plate."""
    return round(0.18 * height / PLATE_HEIGHT)


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
    top = _line_top(letters.shape[0])
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
    distance = np.abs(grids - _resize_to_grid(cell)).mean(axis=(1, 2)) + 0.5 * np.abs(widths - cell.shape[1] / size)
    return names[int(distance.argmin())]


_Stamp = tuple[Image.Image, Image.Image, tuple[int, int]]
"""Image, coverage and upper left corner of one thing."""


def paint_scene(scene: Scene, ground: Image.Image | None = None) -> Image.Image:
    """Draw a scene as an `RGB` image of its size, on the background `ground` instead of its own if there is one."""
    canvas = (
        ground.copy()
        if ground is not None
        else _paint_background(scene.width, scene.height, words.BACKGROUNDS[scene.background])
    )
    stamps = [(_paint_plate if thing.noun == words.TEXT else _paint_shape)(thing, scene.unit) for thing in scene.things]
    _cast_shadows(canvas, stamps, scene.unit)
    for picture, whole, at in stamps:
        canvas.paste(picture, at, whole)
    return canvas


def paint_abstract(width: int, height: int, colour: str, rng: random.Random) -> Image.Image:
    """Draw soft bands, for prompts of which nothing is understood."""
    base = np.array(words.BACKGROUNDS[colour], dtype=np.float64)
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    angle, phase = rng.uniform(0, math.tau), rng.uniform(0, math.tau)
    waves = np.sin((x * math.cos(angle) + y * math.sin(angle)) * 5 + phase)
    tinted = base + 7 * waves[..., None]
    return Image.fromarray(np.clip(tinted, 0, 255).astype(np.uint8))


def _paint_background(width: int, height: int, colour: words.Rgb) -> Image.Image:
    """Draw a background that gets slightly darker downwards, flat enough to recognise its colour."""
    ramp = np.linspace(4, -6, height)[:, None, None] + np.array(colour, dtype=np.float64)
    row = np.clip(np.round(ramp), 0, 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(row, (height, width, 3))))


def _cast_shadows(canvas: Image.Image, stamps: list[_Stamp], unit: int) -> None:
    shade = Image.new("L", canvas.size, 0)
    drop = max(1, round(unit * 0.008))
    for _, whole, (x, y) in stamps:
        shade.paste(255, (x, y + drop), whole)
    # Blurring a half-size copy looks the same and costs a quarter.
    half = shade.resize((max(1, shade.width // 2), max(1, shade.height // 2)))
    soft = half.filter(ImageFilter.GaussianBlur(unit * 0.006)).resize(canvas.size)
    canvas.paste(words.INK, mask=soft.point(lambda value: value * _SHADOW))


def _paint_shape(thing: Thing, unit: int) -> _Stamp:
    left, top, right, bottom = thing.box
    diameter = max(right - left, bottom - top)
    whole, inside = masks(thing.noun, diameter, outline_width(unit))
    base, second = words.TONES[thing.colour]
    picture = Image.new("RGB", whole.size, words.INK)
    fill = Image.new("RGB", whole.size, base)
    if thing.texture != "plain":
        fill.paste(second, mask=_paint_texture(thing.texture, whole.width, diameter))
    picture.paste(fill, mask=inside)
    x, y = thing.centre
    return picture, whole, (round(x - whole.width / 2), round(y - whole.height / 2))


def _paint_texture(texture: str, side: int, diameter: float, zoom: int = 3) -> Image.Image:
    steps = (np.arange(side * zoom) + 0.5) / zoom - side / 2
    across, down = np.meshgrid(steps / diameter, steps / diameter)
    return Image.fromarray(pattern(texture, across, down).astype(np.uint8) * 255).reduce(zoom)


def _paint_plate(thing: Thing, unit: int) -> _Stamp:
    left, top, right, bottom = (round(edge) for edge in thing.box)
    width, height = right - left, bottom - top
    outline = round(outline_width(unit))
    whole = Image.new("L", (width, height), 0)
    ImageDraw.Draw(whole).rounded_rectangle((0, 0, width - 1, height - 1), radius=outline * 2, fill=255)
    picture = Image.new("RGB", (width, height), words.INK)
    ImageDraw.Draw(picture).rounded_rectangle(
        (outline, outline, width - 1 - outline, height - 1 - outline), radius=outline, fill=words.PLATE
    )
    inner = height - 2 * outline
    size = max(1, round(inner / PLATE_HEIGHT))
    line = draw_text(thing.word, size)
    at = (outline + round(_PADDING * size), outline + _line_top(inner))
    picture.paste(words.LETTERS, at, line)
    return picture, whole, (left, top)
