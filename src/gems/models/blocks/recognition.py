"""Which shape is this mask, which texture are these marks: by comparison with how they are drawn."""

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
"""How far a thing reaches beyond its inside: left, top, right, bottom in pixels."""


def closest_shape(mask: Mask, outline: float) -> tuple[str, Margins]:
    """The shape whose inside looks most like `mask`, and how far its outline reaches beyond.

    Args:
        mask: Cut to its own extent.
        outline: Width in pixels of the outline around it, which decides how much of the tips is hidden.
    """
    side = max(mask.shape) + 2 * outline
    reference = min(_REFERENCE_SIDES, key=lambda known: abs(np.log(known / side)))
    shown = _normal(mask)
    templates, margins = _templates(reference)
    shared = np.minimum(templates, shown).sum(axis=(1, 2))
    united = np.maximum(templates, shown).sum(axis=(1, 2))
    best = int((shared / united).argmax())
    left, top, right, bottom = (float(margin) * outline / _REFERENCE_OUTLINE for margin in margins[best])
    return words.SHAPES[best], (left, top, right, bottom)


@cache
def _templates(side: int) -> tuple[Floats, Floats]:
    """Normalised insides of all shapes, and the margins around them: pointed tips are mostly outline."""
    grids, margins = [], []
    for shape in words.SHAPES:
        inside = np.asarray(rendering.masks(shape, side, _REFERENCE_OUTLINE)[1]) > 127
        middle = inside.shape[0] / 2
        across, down = (
            (side - _REFERENCE_OUTLINE) * part + _REFERENCE_OUTLINE for part in rendering.extent(shape)
        )
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        grids.append(_normal(inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]))
        starts = (columns[0] - middle + across / 2, rows[0] - middle + down / 2)
        ends = (middle + across / 2 - columns[-1] - 1, middle + down / 2 - rows[-1] - 1)
        margins.append((*starts, *ends))
    return np.stack(grids), np.array(margins)


def _normal(mask: Mask) -> Floats:
    """A mask in the middle of a square grid that its longer side fills, coverage in [0, 1]."""
    height, width = mask.shape
    factor = _GRID / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    scaled = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    grid = Image.new("L", (_GRID, _GRID), 0)
    grid.paste(scaled, ((_GRID - size[0]) // 2, (_GRID - size[1]) // 2))
    return np.asarray(grid, dtype=np.float64) / 255


def closest_texture(marked: Mask, across: Floats, down: Floats) -> str:
    """The texture whose second tone lies where it is seen.

    Args:
        marked: For each pixel of a thing, whether it shows the second tone.
        across: Distance of each pixel right of the thing's centre, in its diameters.
        down: Distance of each pixel below it.
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
