"""Align an edited image with its source: undo shifts and changes of colour outside the mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from gems.errors import UnalignedEditError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_SHIFT = 1 / 16
"""Largest shift that is undone, as a share of width or height."""
_PEAKS = 6
"""Shifts that are compared by their pixels: where images repeat themselves, the highest peak may be a wrong one."""
_MOVED_FOR = 0.7
"""A shift is undone if less than this part of the mean difference remains."""
_MIN_OUTSIDE = 0.01
"""Share of the image outside the mask from which on something can be compared."""
_GAINS = (0.5, 2.0)
_SAME_COLOURS = 1.5
"""Largest mean difference, of 255 levels, that is left as it is: encoding alone changes colours as much."""
_MAX_RECOLOURING = 64.0
"""Largest mean change of colours, of 255 levels, that is still the same picture."""
_MAX_DIFFERENCE = 12.0
"""Largest mean difference outside the mask, of 255 levels, ..."""
_MIN_CORRELATION = 0.7
"""... of an image that does not follow its source at least as closely as this."""
_WEIGHTS = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Aligned:
    """An edited image in the place and the colours of its source.

    Attributes:
        image: In RGB, of the source's size.
        shift: Pixels to the right and down by which the edited image was off.
        recoloured: Whether its colours were matched.
    """

    image: Image.Image
    shift: tuple[int, int]
    recoloured: bool


def align(edited: Image.Image, source: Image.Image, mask: Image.Image) -> Aligned:
    """Move and recolour `edited` so that it agrees with `source` where `mask` is black. Blocking.

    All are of one size; the images have the mode RGB, the mask the mode L. The shift is found by phase correlation
    (Kuglin and Hines, 1975); where pixels leave the image, those of the source take their place.

    Raises:
        UnalignedEditError: what is outside the mask has nothing to do with the source.
    """
    outside = np.asarray(mask) == 0
    if outside.mean() < _MIN_OUTSIDE:
        return Aligned(edited, (0, 0), recoloured=False)
    before, after = (np.asarray(image, dtype=np.float32) for image in (source, edited))
    shift = _find_shift(before @ _WEIGHTS, after @ _WEIGHTS, outside)
    moved, there = _move(after, before, shift)
    compared = outside & there
    matched = _match_colours(moved, before, compared)
    recoloured = matched is not moved
    _check(matched, before, compared, source.size)
    if shift == (0, 0) and not recoloured:
        return Aligned(edited, shift, recoloured)
    pixels = np.where(there[..., None], np.clip(matched, 0, 255).round(), before).astype(np.uint8)
    return Aligned(Image.fromarray(pixels), shift, recoloured)


def _find_shift(before: NDArray[np.float32], after: NDArray[np.float32], outside: NDArray[np.bool_]) -> tuple[int, int]:
    """Return by how many pixels `after` lies to the right of and below `before`."""
    spectra = [np.fft.rfft2(np.where(outside, grey - grey[outside].mean(), 0)) for grey in (after, before)]
    product = spectra[0] * spectra[1].conj()
    size = np.abs(product)
    peaks = np.fft.irfft2(product / np.maximum(size, size.max() * 1e-6 + 1e-9), s=before.shape)
    height, width = before.shape
    down, right = int(height * _MAX_SHIFT), int(width * _MAX_SHIFT)
    rows, columns = np.arange(-down, down + 1), np.arange(-right, right + 1)
    near = peaks[np.ix_(rows % height, columns % width)]
    highest = np.argsort(near, axis=None)[::-1][:_PEAKS]
    shifts = [(int(columns[n % columns.size]), int(rows[n // columns.size])) for n in highest]

    def difference(shift: tuple[int, int]) -> float:
        moved, there = _move(after, before, shift)
        both = outside & there
        gap = moved[both] - before[both]
        # Other colours are no shift.
        return float(np.abs(gap - np.median(gap)).mean())

    best, still = min(shifts, key=difference), difference((0, 0))
    # Nothing is moved without need.
    return best if still > _SAME_COLOURS and difference(best) < _MOVED_FOR * still else (0, 0)


def _move(
    pixels: NDArray[np.float32], ground: NDArray[np.float32], shift: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return `pixels` moved back by `shift` over `ground`, and where there are any of them."""
    there = np.zeros(pixels.shape[:2], dtype=bool)
    if shift == (0, 0):
        return pixels, ~there
    height, width, *_ = pixels.shape
    right, down = shift
    to = np.s_[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
    origin = np.s_[max(0, down) : height - max(0, -down), max(0, right) : width - max(0, -right)]
    moved = ground.copy()
    moved[to] = pixels[origin]
    there[to] = True
    return moved, there


def _match_colours(
    pixels: NDArray[np.float32], wanted: NDArray[np.float32], where: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return `pixels` with the gain and offset of each channel that fit `wanted`; themselves if they fit already."""
    found, goal = pixels[where], wanted[where]
    if np.abs(found - goal).mean() <= _SAME_COLOURS:
        return pixels
    spread, wanted_spread = found.var(axis=0), goal.var(axis=0)
    together = ((found - found.mean(axis=0)) * (goal - goal.mean(axis=0))).mean(axis=0)
    # Where one does not follow the other, a gain would only flatten the noise.
    follows = together >= _MIN_CORRELATION * np.sqrt(spread * wanted_spread)
    gain = np.clip(
        np.where(follows & (np.minimum(spread, wanted_spread) > 1), together / np.maximum(spread, 1), 1), *_GAINS
    )
    offset = goal.mean(axis=0) - gain * found.mean(axis=0)
    matched = (pixels * gain + offset).astype(np.float32)
    better = np.abs(matched[where] - goal).mean() < np.abs(found - goal).mean()
    return matched if better and np.abs(matched[where] - found).mean() <= _MAX_RECOLOURING else pixels


def _check(
    pixels: NDArray[np.float32], wanted: NDArray[np.float32], where: NDArray[np.bool_], size: tuple[int, int]
) -> None:
    # Channel by channel, since pictures of the same brightness may have nothing else in common.
    for found, goal in zip(pixels[where].T, wanted[where].T, strict=True):
        difference = float(np.abs(found - goal).mean())
        if difference <= _MAX_DIFFERENCE:
            continue
        spread = float(found.std() * goal.std())
        correlation = float(((found - found.mean()) * (goal - goal.mean())).mean()) / spread if spread > 0 else 0.0
        if correlation < _MIN_CORRELATION:
            raise UnalignedEditError(
                f"The edited image differs from its source of {size[0]}x{size[1]} pixels by {difference:.0f} of 255 "
                f"levels outside the mask, and cannot be aligned with it (correlation {correlation:.2f})."
            )
