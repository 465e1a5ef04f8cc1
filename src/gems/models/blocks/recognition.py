"""Recognise shapes and textures by comparison with drawn ones."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gems.models.blocks import rendering
from gems.models.blocks import vocabulary as words

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

_GRID = 48
_REFERENCE_SIDES = (24, 30, 36, 44, 54, 66, 80, 120, 200, 320)
_REFERENCE_OUTLINE = 5.0
_MARKED = 0.06
"""Smallest share of second-tone pixels that makes a texture."""


Margins = tuple[float, float, float, float]
"""Pixels from a thing's inside to its outer edge: left, top, right, bottom."""


def match_shape(mask: Mask, outline: float) -> tuple[str, Margins]:
    """Return the shape whose inside is most similar to the cropped `mask`, and its margins.

    `outline` is the outline's width in pixels, which hides the tips of pointed shapes.
    """
    side = max(mask.shape) + 2 * outline
    reference = min(_REFERENCE_SIDES, key=lambda known: abs(np.log(known / side)))
    shown = _normalize_mask(mask)
    templates, margins = _shape_templates(reference)
    shared = np.minimum(templates, shown).sum(axis=(1, 2))
    united = np.maximum(templates, shown).sum(axis=(1, 2))
    best = int((shared / united).argmax())
    left, top, right, bottom = (float(margin) * outline / _REFERENCE_OUTLINE for margin in margins[best])
    return words.SHAPES[best], (left, top, right, bottom)


@cache
def _shape_templates(side: int) -> tuple[Floats, Floats]:
    """Return normalised insides of all shapes, and their margins: pointed tips are mostly outline."""
    grids, margins = [], []
    for shape in words.SHAPES:
        inside = np.asarray(rendering.masks(shape, side, _REFERENCE_OUTLINE)[1]) > 127
        middle = inside.shape[0] / 2
        across, down = (
            (side - _REFERENCE_OUTLINE) * part + _REFERENCE_OUTLINE for part in rendering.extent(shape)
        )
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        grids.append(_normalize_mask(inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]))
        starts = (columns[0] - middle + across / 2, rows[0] - middle + down / 2)
        ends = (middle + across / 2 - columns[-1] - 1, middle + down / 2 - rows[-1] - 1)
        margins.append((*starts, *ends))
    return np.stack(grids), np.array(margins)


def _normalize_mask(mask: Mask) -> Floats:
    """Scale a mask to fit centred in a square grid, as coverage in [0, 1]."""
    height, width = mask.shape
    factor = _GRID / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    scaled = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    grid = Image.new("L", (_GRID, _GRID), 0)
    grid.paste(scaled, ((_GRID - size[0]) // 2, (_GRID - size[1]) // 2))
    return np.asarray(grid, dtype=np.float64) / 255


def match_texture(marked: Mask, across: Floats, down: Floats) -> str:
    """Return the texture that best explains the second-tone pixels `marked`.

    `across` and `down` are each pixel's distances right of and below the thing's centre, in diameters.
    """
    share = float(marked.mean())
    if share < _MARKED:
        return "plain"
    agreement = {
        texture: float((rendering.pattern(texture, across, down) == marked).mean())
        for texture in words.TEXTURES
        if texture != "plain"
    }
    agreement["plain"] = max(share, 1 - share) - 0.05
    return max(agreement, key=lambda texture: agreement[texture])
