"""Geometry of shapes and textures, for drawing and detection.

Shapes have a centred bounding box with a longer side of exactly 1, y downwards.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

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


def outline_width(unit: int) -> float:
    """Return the width of outlines in pixels for an image whose shorter side is `unit`."""
    return max(2.0, OUTLINE * unit)


def _regular(corners: int, start: float) -> Points:
    angles = np.radians(start + np.arange(corners) * 360.0 / corners)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star() -> Points:
    points = _regular(10, -90)
    points[1::2] *= 0.45
    return points


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


def _cross() -> Points:
    arm, end = 0.34, 1.0
    quarter = [(-arm, -end), (arm, -end), (arm, -arm), (end, -arm)]
    points = [*quarter, (end, arm), (arm, arm), (arm, end), (-arm, end), (-arm, arm), (-end, arm)]
    return np.array([*points, (-end, -arm), (-arm, -arm)], dtype=float)


def _polygon(shape: str) -> Points:
    boxes = {"square": 1.0, "rectangle": 0.6}
    if shape in boxes:
        half = boxes[shape]
        return np.array([(-1, -half), (1, -half), (1, half), (-1, half)], dtype=float)
    corners = {"circle": (72, 0.0), "triangle": (3, -90.0), "pentagon": (5, -90.0), "hexagon": (6, 0.0)}
    if shape in corners:
        return _regular(*corners[shape])
    if shape == "diamond":
        return np.array([(0, -1), (0.72, 0), (0, 1), (-0.72, 0)], dtype=float)
    if shape == "arrow":
        return np.array(
            [(-1, -0.26), (0.1, -0.26), (0.1, -0.68), (1, 0), (0.1, 0.68), (0.1, 0.26), (-1, 0.26)],
            dtype=float,
        )
    return {"star": _star, "heart": _heart, "crescent": _crescent, "cross": _cross}[shape]()


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
