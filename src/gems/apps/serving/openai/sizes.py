"""The size that is drawn for the size that is asked for."""

from __future__ import annotations

import math

from gems.apps.server.openai.errors import AnswerError
from gems.errors import OptionError
from gems.options import parse_size
from gems.types import GeneratorCapabilities


def drawable(size: str | None, generator: GeneratorCapabilities) -> str | None:
    """The nearest size that the generator can draw, as `WIDTHxHEIGHT`; None for its own.

    Raises:
        AnswerError: `size` is none.
    """
    if size is None or size.strip().lower() in ("", "auto"):
        return None
    try:
        width, height = parse_size(size)
    except OptionError:
        raise AnswerError("size is to be `auto` or WIDTHxHEIGHT, such as 1024x1024.", param="size") from None
    width, height = max(width, 1), max(height, 1)
    if generator.sizes is not None:
        width, height = min(generator.sizes, key=lambda other: _distance(other, (width, height)))
    else:
        width, height = _within(width, height, generator)
    return f"{width}x{height}"


def _within(width: int, height: int, generator: GeneratorCapabilities) -> tuple[int, int]:
    """The size scaled until its sides are within the limits, as far as its shape allows, and rounded."""
    scale = min(1.0, generator.max_side / max(width, height))
    scale = max(scale, generator.min_side / min(width, height))
    step = generator.size_multiple
    least, most = -(-generator.min_side // step), generator.max_side // step
    sides = (min(max(round(side * scale / step), least), most) * step for side in (width, height))
    return next(sides), next(sides)


def _distance(one: tuple[int, int], other: tuple[int, int]) -> tuple[float, float]:
    """How different two sizes are: first by their shape, then by their area."""
    shape = abs(math.log(one[0] / one[1]) - math.log(other[0] / other[1]))
    area = abs(math.log(one[0] * one[1]) - math.log(other[0] * other[1]))
    return round(shape, 3), area
