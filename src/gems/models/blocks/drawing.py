"""Draw a scene."""

from __future__ import annotations

import math
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from gems.models.blocks import lettering, palette, rendering
from gems.models.blocks import vocabulary as words
from gems.models.blocks.scene import Scene, Thing

_SHADOW = 0.09


def paint_scene(scene: Scene) -> Image.Image:
    """Draw a scene as an `RGB` image of its size."""
    canvas = _paint_background(scene.width, scene.height, palette.BACKGROUNDS[scene.background])
    stamps = [(_paint_thing(thing, scene.unit), thing) for thing in scene.things]
    _cast_shadows(canvas, [(whole, at) for (_, whole, at), _ in stamps], scene.unit)
    for (picture, whole, at), _ in stamps:
        canvas.paste(picture, at, whole)
    return canvas


def paint_abstract(width: int, height: int, colour: str, rng: random.Random) -> Image.Image:
    """Draw soft bands, for prompts of which nothing is understood."""
    base = np.array(palette.BACKGROUNDS[colour], dtype=np.float64)
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    angle, phase = rng.uniform(0, math.tau), rng.uniform(0, math.tau)
    waves = np.sin((x * math.cos(angle) + y * math.sin(angle)) * 5 + phase)
    tinted = base + 7 * waves[..., None]
    return Image.fromarray(np.clip(tinted, 0, 255).astype(np.uint8))


def _paint_background(width: int, height: int, colour: palette.Rgb) -> Image.Image:
    """Draw a background that gets slightly darker downwards, flat enough to recognise its colour."""
    ramp = np.linspace(4, -6, height)[:, None, None] + np.array(colour, dtype=np.float64)
    row = np.clip(np.round(ramp), 0, 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(row, (height, width, 3))))


def _cast_shadows(canvas: Image.Image, stamps: list[tuple[Image.Image, tuple[int, int]]], unit: int) -> None:
    shade = Image.new("L", canvas.size, 0)
    drop = max(1, round(unit * 0.008))
    for whole, (x, y) in stamps:
        shade.paste(255, (x, y + drop), whole)
    # Blurring a half-size copy looks the same and costs a quarter.
    half = shade.resize((max(1, shade.width // 2), max(1, shade.height // 2)))
    soft = half.filter(ImageFilter.GaussianBlur(unit * 0.006)).resize(canvas.size)
    canvas.paste(palette.INK, mask=soft.point(lambda value: value * _SHADOW))


def _paint_thing(thing: Thing, unit: int) -> tuple[Image.Image, Image.Image, tuple[int, int]]:
    """Return image, coverage and upper left corner of one thing."""
    return _paint_plate(thing, unit) if thing.noun == words.TEXT else _paint_shape(thing, unit)


def _paint_shape(thing: Thing, unit: int) -> tuple[Image.Image, Image.Image, tuple[int, int]]:
    left, top, right, bottom = thing.box
    diameter = max(right - left, bottom - top)
    whole, inside = rendering.masks(thing.noun, diameter, rendering.outline_width(unit))
    base, second = palette.TONES[thing.colour]
    picture = Image.new("RGB", whole.size, palette.INK)
    fill = Image.new("RGB", whole.size, base)
    if thing.texture != "plain":
        fill.paste(second, mask=_paint_texture(thing.texture, whole.width, diameter))
    picture.paste(fill, mask=inside)
    x, y = thing.centre
    return picture, whole, (round(x - whole.width / 2), round(y - whole.height / 2))


def _paint_texture(texture: str, side: int, diameter: float, zoom: int = 3) -> Image.Image:
    steps = (np.arange(side * zoom) + 0.5) / zoom - side / 2
    across, down = np.meshgrid(steps / diameter, steps / diameter)
    return Image.fromarray(rendering.pattern(texture, across, down).astype(np.uint8) * 255).reduce(zoom)


def _paint_plate(thing: Thing, unit: int) -> tuple[Image.Image, Image.Image, tuple[int, int]]:
    left, top, right, bottom = (round(edge) for edge in thing.box)
    width, height = right - left, bottom - top
    outline = round(rendering.outline_width(unit))
    whole = Image.new("L", (width, height), 0)
    ImageDraw.Draw(whole).rounded_rectangle((0, 0, width - 1, height - 1), radius=outline * 2, fill=255)
    picture = Image.new("RGB", (width, height), palette.INK)
    ImageDraw.Draw(picture).rounded_rectangle(
        (outline, outline, width - 1 - outline, height - 1 - outline), radius=outline, fill=palette.PLATE
    )
    inner = height - 2 * outline
    size = max(1, round(inner / lettering.PLATE_HEIGHT))
    line = lettering.draw_text(thing.word, size)
    at = (outline + round(lettering.plate_padding(size)), outline + round(lettering.line_top(inner)))
    picture.paste(palette.LETTERS, at, line)
    return picture, whole, (left, top)
