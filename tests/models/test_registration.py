"""Edited images that are shifted, recoloured, scaled or something else altogether."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gems.errors import UnalignedEditError
from gems.generation import GeneratedImage, ImageRequest
from gems.models.images import encode_png
from gems.models.masks import keep_outside
from gems.models.registration import align

SIZE = (160, 120)
BOX = (90, 40, 140, 90)
SHIFTS = [(0, 0), (1, 0), (0, -2), (3, 2), (-5, 4), (7, -7)]


def photograph(seed: int = 1) -> Image.Image:
    """Draw something with detail at every scale, as photographs have."""
    random = np.random.default_rng(seed)
    total = np.zeros((SIZE[1], SIZE[0], 3))
    for cells in (3, 6, 12, 24, 60):
        noise = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += np.asarray(noise.resize(SIZE, Image.Resampling.BICUBIC), dtype=float)
    return Image.fromarray((total / 5).astype(np.uint8))


def shapes() -> Image.Image:
    """Draw flat shapes on a flat ground."""
    picture = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((20, 20, 50, 60), fill="red")
    draw.ellipse((100, 50, 130, 80), fill="blue")
    draw.rectangle((30, 90, 44, 104), fill="green")
    return picture


def stripes() -> Image.Image:
    """Draw a pattern that repeats every eight pixels, beside one thing that does not."""
    picture = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(picture)
    for left in range(0, SIZE[0], 8):
        draw.rectangle((left, 0, left + 3, SIZE[1]), fill="black")
    draw.ellipse((20, 20, 44, 44), fill="red")
    return picture


def edit(source: Image.Image, shift: tuple[int, int] = (0, 0)) -> Image.Image:
    """Paint the box and move the whole by `shift`, as an editor does."""
    picture = source.copy()
    picture.paste("yellow", BOX)
    moved = Image.new("RGB", SIZE, "gray")
    moved.paste(picture, shift)
    return moved


def mask() -> Image.Image:
    picture = Image.new("L", SIZE, 0)
    picture.paste(255, BOX)
    return picture


def locked(edited: Image.Image, source: Image.Image) -> GeneratedImage:
    request = ImageRequest(
        prompt="x", seed=1, width=SIZE[0], height=SIZE[1], source=encode_png(source), mask=encode_png(mask())
    )
    data = encode_png(edited)
    image = GeneratedImage(data=data, width=1, height=1, seed=1, model="m", parameters={"steps": 4}, seconds=0.0)
    return keep_outside(image, request)


def outside(picture: Image.Image) -> bytes:
    bare = picture.copy()
    bare.paste("black", BOX)
    return bare.tobytes()


@pytest.mark.parametrize("shift", SHIFTS, ids=str)
@pytest.mark.parametrize("draw", [photograph, shapes, stripes])
def test_shift_is_undone_and_the_outside_is_the_source(draw, shift: tuple[int, int]) -> None:
    image = locked(edit(draw(), shift), draw())
    result = Image.open(io.BytesIO(image.data))
    assert outside(result) == outside(draw())
    assert image.parameters == {"steps": 4} | ({"shift": list(shift)} if shift != (0, 0) else {})
    middle = (100, 50, 130, 80)
    assert result.crop(middle).getcolors() == [(900, (255, 255, 0))]


@pytest.mark.parametrize("draw", [photograph, shapes])
def test_changed_colours_are_matched(draw) -> None:
    edited = edit(draw(), (2, 1)).point(lambda level: int(level * 0.8 + 20))
    image = locked(edited, draw())
    result = Image.open(io.BytesIO(image.data))
    assert outside(result) == outside(draw())
    assert image.parameters["recoloured"] is True
    assert image.parameters["shift"] == [2, 1]
    assert np.abs(np.array(result.getpixel((115, 65)), dtype=int) - (255, 255, 0)).max() <= 6


def test_noise_of_encoding_is_left_alone() -> None:
    out = io.BytesIO()
    edit(photograph()).save(out, "JPEG", quality=92, subsampling=0)
    image = locked(Image.open(out), photograph())
    assert image.parameters == {"steps": 4}


@pytest.mark.parametrize("draw", [photograph, shapes])
def test_other_size_is_scaled(draw) -> None:
    image = locked(edit(draw()).resize((320, 240), Image.Resampling.NEAREST), draw())
    assert outside(Image.open(io.BytesIO(image.data))) == outside(draw())
    assert (image.width, image.height) == SIZE


@pytest.mark.parametrize(
    "other",
    [photograph(2), shapes(), photograph().transpose(Image.Transpose.FLIP_LEFT_RIGHT), Image.new("RGB", SIZE, "black")],
)
def test_another_picture_is_refused(other: Image.Image) -> None:
    with pytest.raises(UnalignedEditError, match="outside the mask") as caught:
        locked(other, photograph())
    assert caught.value.hint
    assert not caught.value.retryable


def test_edge_is_feathered_inwards_only() -> None:
    source = Image.new("RGB", SIZE, "black")
    edited = source.copy()
    edited.paste("white", BOX)
    result = Image.open(io.BytesIO(locked(edited, source).data)).convert("L")
    row = [result.getpixel((x, 65)) for x in range(84, 104)]
    assert row == sorted(row)
    assert row[:6] == [0] * 6
    assert 0 < row[8] < 255
    assert row[-1] == 255


def test_mask_over_everything_needs_no_alignment() -> None:
    edited = photograph(2)
    found = align(edited, photograph(), Image.new("L", SIZE, 255))
    assert (found.image, found.shift, found.recoloured) == (edited, (0, 0), False)
