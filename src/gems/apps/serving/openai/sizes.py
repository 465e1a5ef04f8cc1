"""Mapping of requested sizes to supported ones."""

from __future__ import annotations

import math

from gems.apps.server.openai.errors import AnswerError
from gems.errors import OptionError
from gems.options import parse_size
from gems.types import GeneratorCapabilities


def supported_size(size: str | None, generator: GeneratorCapabilities) -> str | None:
    """Return the nearest supported size as `WIDTHxHEIGHT`, or None for the default."""
    if size is None or size.strip().lower() in ("", "auto"):
        return None
    try:
        width, height = parse_size(size)
    except OptionError:
        raise AnswerError("Invalid size. Use auto or WIDTHxHEIGHT, e.g. 1024x1024.", param="size") from None
    width, height = max(width, 1), max(height, 1)
    if generator.sizes is not None:
        width, height = min(generator.sizes, key=lambda other: _size_distance(other, (width, height)))
    else:
        width, height = _scale_into_limits(width, height, generator)
    return f"{width}x{height}"


def _scale_into_limits(width: int, height: int, generator: GeneratorCapabilities) -> tuple[int, int]:
    """Scale a size into the limits, keeping its aspect ratio if possible, and round it."""
    scale = min(1.0, generator.max_side / max(width, height))
    scale = max(scale, generator.min_side / min(width, height))
    step = generator.size_multiple
    least, most = -(-generator.min_side // step), generator.max_side // step
    sides = (min(max(round(side * scale / step), least), most) * step for side in (width, height))
    return next(sides), next(sides)


def _size_distance(one: tuple[int, int], other: tuple[int, int]) -> tuple[float, float]:
    """Return the distance of two sizes: first by aspect ratio, then by area."""
    shape = abs(math.log(one[0] / one[1]) - math.log(other[0] / other[1]))
    area = abs(math.log(one[0] * one[1]) - math.log(other[0] * other[1]))
    return round(shape, 3), area
