"""Detect the scene in the pixels of an image."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from gems.models.blocks import rendering
from gems.models.blocks import vocabulary as words
from gems.models.blocks.scene import Box, Scene, Thing
from gems.models.images import open_flat

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

_GRID = 48
_REFERENCE_SIDES = (24, 30, 36, 44, 54, 66, 80, 120, 200, 320)
_REFERENCE_OUTLINE = 5.0
_MARKED = 0.06
"""Smallest share of second-tone pixels that makes a texture."""


Margins = tuple[float, float, float, float]
"""Pixels from a thing's inside to its outer edge: left, top, right, bottom."""
_WORKING_SIDE = 512
_LONGEST_SIDE = 2048
_MOST_THINGS = 120
_SMALLEST_AREA = 0.0004
_COLOUR_DISTANCE = 60
_CACHED_SCENES = 32
_NAMES = (*words.COLOURS, "")
_TONES = np.array([tone for colour in words.COLOURS for tone in words.TONES[colour]] + [words.PLATE])
# Backgrounds of images from elsewhere may have the full colours.
_GROUNDS = np.array([*words.BACKGROUNDS.values(), *(base for base, _ in words.TONES.values())])
_GROUND_NAMES = [*words.BACKGROUNDS, *words.TONES]


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
        across, down = ((side - _REFERENCE_OUTLINE) * part + _REFERENCE_OUTLINE for part in rendering.extent(shape))
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
        texture: float((rendering.pattern(texture, across, down) == marked).mean()) for texture in words.TEXTURES[1:]
    }
    agreement["plain"] = max(share, 1 - share) - 0.05
    return max(agreement, key=lambda texture: agreement[texture])


Pixels = NDArray[np.int16]
Labels = NDArray[np.signedinteger[Any]]
Place = tuple[slice, slice]


class Detector:
    """Detects scenes and caches the latest, since a checklist asks many questions about one. Thread-safe."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, Scene] = OrderedDict()
        self._lock = threading.Lock()

    def detect(self, data: bytes) -> Scene:
        """Detect the scene of the encoded image `data`; raises `InvalidImageError`. Blocking."""
        key = hashlib.sha256(data).hexdigest()
        with self._lock:
            if key in self._seen:
                self._seen.move_to_end(key)
                return self._seen[key]
        scene = detect_scene(open_flat(data, "The request"))
        with self._lock:
            self._seen[key] = scene
            while len(self._seen) > _CACHED_SCENES:
                self._seen.popitem(last=False)
        return scene


def detect_scene(picture: Image.Image) -> Scene:
    """Detect an image's scene, in pixels of a copy with a shorter side of about 512. Blocking."""
    factor = min(_WORKING_SIDE / min(picture.size), _LONGEST_SIDE / max(picture.size))
    if abs(factor - 1) > 0.01:
        size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return _Detection(np.asarray(picture, dtype=np.int16)).scene()


class _Detection:
    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels
        self._height, self._width = pixels.shape[:2]
        self._unit = min(self._height, self._width)
        self._outline = rendering.outline_width(self._unit)

    def scene(self) -> Scene:
        p = self._pixels
        labels, _ = ndimage.label(p.max(axis=2) >= words.INK_BELOW)
        border = [p[:2].reshape(-1, 3), p[-2:].reshape(-1, 3), p[:, 0], p[:, -1]]
        ground_colour = np.median(np.concatenate(border), axis=0)
        found = [thing for region in self._regions(labels, ground_colour) if (thing := self._thing(*region))]
        plates = [thing for thing in found if thing.noun == words.TEXT]
        things = [t for t in found if not any(t is not p and _is_within(t.box, p.box) for p in plates)]
        name = _GROUND_NAMES[int(((_GROUNDS - ground_colour) ** 2).sum(axis=1).argmin())]
        return Scene(self._width, self._height, name, tuple(things))

    def _regions(self, labels: Labels, ground_colour: Floats) -> list[tuple[Mask, Place]]:
        """Return masks and positions of all regions that may be things."""
        regions: list[tuple[Mask, Place]] = []
        edges = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
        outside = np.isin(labels, edges) & (labels > 0)
        inner = ndimage.label((labels > 0) & ~outside)[0]
        for source in (inner, *self._without_outline(labels == 0, outside, ground_colour)):
            for number, place in enumerate(ndimage.find_objects(source), start=1):
                mask = source[place] == number
                if mask.sum() >= _SMALLEST_AREA * self._unit**2:
                    regions.append((mask, (place[0], place[1])))
        return regions[:_MOST_THINGS]

    def _without_outline(self, ink: Mask, outside: Mask, ground_colour: Floats) -> list[Labels]:
        """Label things in images from elsewhere: far from the background's colour, or solid ink."""
        sources = []
        strange = outside & (np.abs(self._pixels - ground_colour).max(axis=2) > _COLOUR_DISTANCE)
        for mask, iterations in ((strange, 4), (ink, 8)):
            if mask.any() and ground_colour.max() >= words.INK_BELOW:
                opened = ndimage.binary_opening(mask, iterations=iterations)
                if opened.any():
                    sources.append(ndimage.label(opened)[0])
        return sources

    def _thing(self, mask: Mask, place: Place) -> Thing | None:
        pixels = self._pixels[place]
        core = ndimage.binary_erosion(mask, iterations=2)
        if core.sum() < 12:
            return None
        sample = pixels[core]
        sample = sample[:: max(1, len(sample) // 2000)].astype(np.int32)
        distance = ((sample[:, None, :] - _TONES[None]) ** 2).sum(axis=2)
        votes = np.bincount(distance.argmin(axis=1) // 2, minlength=len(_NAMES))
        colour = _NAMES[int(votes.argmax())]
        # Large letters may cover more of a plate than its own colour.
        if not colour or votes[-1] > 0.3 * votes.sum():
            return Thing(words.TEXT, "", "", self._box(place, (self._outline,) * 4), self._read(pixels))
        mask, place = _sharpen_mask(mask, place, pixels, colour)
        pixels, core = self._pixels[place], ndimage.binary_erosion(mask, iterations=2)
        if core.sum() < 12:
            return None
        shape, margins = match_shape(ndimage.binary_fill_holes(mask), self._outline)
        box = self._box(place, margins)
        texture = self._texture(pixels, core, colour, box, place)
        return Thing(shape, colour, texture, box)

    def _box(self, place: Place, margins: Margins) -> Box:
        rows, columns = place
        left, top, right, bottom = margins
        return columns.start - left, rows.start - top, columns.stop + right, rows.stop + bottom

    def _read(self, pixels: Pixels) -> str:
        plate, letters = np.array(words.PLATE), np.array(words.LETTERS)
        axis = (letters - plate).astype(np.float64)
        coverage = ((pixels - plate) @ axis) / float(axis @ axis)
        # Dark edges are the outline with its rounded corners, not a letter.
        cut = round(1.7 * self._outline)
        coverage[:, :cut] = coverage[:, coverage.shape[1] - cut :] = 0
        coverage[:4] = coverage[-4:] = 0
        return rendering.read_plate(np.clip(coverage, 0, 1))

    def _texture(self, pixels: Pixels, core: Mask, colour: str, box: Box, place: Place) -> str:
        base, second = (np.array(tone) for tone in words.TONES[colour])
        nearer = ((pixels - second) ** 2).sum(axis=2) < ((pixels - base) ** 2).sum(axis=2)
        rows, columns = np.nonzero(core)
        left, top, right, bottom = box
        diameter = max(right - left, bottom - top)
        across = (columns + place[1].start + 0.5 - (left + right) / 2) / diameter
        down = (rows + place[0].start + 0.5 - (top + bottom) / 2) / diameter
        return match_texture(nearer[core], across, down)


def _sharpen_mask(mask: Mask, place: Place, pixels: Pixels, colour: str) -> tuple[Mask, Place]:
    """Cut a region at half the outline's brightness, or bright ones would extend further than dark ones."""
    darkest = min(max(tone) for tone in words.TONES[colour])
    sharp = mask & (pixels.max(axis=2) > (max(words.INK) + darkest) / 2)
    rows, columns = np.flatnonzero(sharp.any(axis=1)), np.flatnonzero(sharp.any(axis=0))
    if not rows.size:
        return mask, place
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    down, across = place[0].start, place[1].start
    return sharp[top:bottom, left:right], (slice(down + top, down + bottom), slice(across + left, across + right))


def _is_within(inner: Box, outer: Box) -> bool:
    return all(inner[i] >= outer[i] for i in (0, 1)) and all(inner[i] <= outer[i] for i in (2, 3))
