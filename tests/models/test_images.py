"""Images verified, converted and encoded for chat models."""

from __future__ import annotations

import io
import random
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from gems.errors import InvalidImageError
from gems.models.images import MAX_PIXELS, EncodedImageCache, encode_image, encode_jpegs, verify_image, verify_png
from tests.support.stub.faults import bomb


def png(picture: Image.Image, **more: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", **more)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def test_the_png_itself_where_no_side_is_given() -> None:
    data = png(Image.new("RGB", (3000, 20), "red"))
    assert encode_image(data, None) == (data, "image/png")


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((400, 200), 100, (100, 50)),
        ((200, 400), 100, (50, 100)),
        ((100, 100), 100, (100, 100)),
        ((60, 30), 100, (60, 30)),
        ((1000, 1), 100, (100, 1)),
    ],
)
def test_large_pictures_are_scaled_down_and_small_ones_left(
    size: tuple[int, int], side: int, expected: tuple[int, int]
) -> None:
    data, media_type = encode_image(png(Image.new("RGB", size, "red")), side)
    assert media_type == "image/jpeg"
    assert opened(data).format == "JPEG"
    assert opened(data).size == expected


def test_colours_stay_beside_one_another() -> None:
    # Thin stripes lose their colour where colour is kept at half resolution.
    picture = Image.new("RGB", (64, 64), "white")
    for x in range(0, 64, 2):
        picture.paste("red", (x, 0, x + 1, 64))
    shown = opened(encode_image(png(picture), 64)[0]).convert("RGB")
    stripe, ground = shown.getpixel((20, 32)), shown.getpixel((21, 32))
    assert isinstance(stripe, tuple)
    assert isinstance(ground, tuple)
    assert stripe[0] - stripe[1] > 150
    assert ground[0] - ground[1] < 100


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_shown_on_white(mode: str) -> None:
    picture = Image.new("RGBA", (32, 32), (0, 0, 0, 0)).convert(mode) if mode != "P" else None
    more = {}
    if picture is None:
        picture = Image.new("P", (32, 32), 0)
        picture.putpalette([0, 0, 0, 255, 0, 0])
        more = {"transparency": 0}
    shown = opened(encode_image(png(picture, **more), 32)[0])
    assert shown.mode == "RGB"
    assert min(channel[0] for channel in shown.getextrema()) > 250  # type: ignore[index]


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "P", "RGB"])
def test_every_png_mode_becomes_rgb(mode: str) -> None:
    data, _ = encode_image(png(Image.new(mode, (16, 16))), 16)
    assert opened(data).mode == "RGB"


async def test_a_picture_is_encoded_once_for_each_size_while_it_is_among_the_last() -> None:
    loaded: list[str] = []

    async def load(image: str) -> bytes:
        loaded.append(image)
        return png(Image.new("RGB", (64, 32), "red"))

    encodings = EncodedImageCache()
    first = await encodings.encode("a", 32, load)
    assert await encodings.encode("a", 32, load) == first
    assert opened(first[0]).size == (32, 16)
    assert opened((await encodings.encode("a", 16, load))[0]).size == (16, 8)
    assert loaded == ["a", "a"]
    small = EncodedImageCache(most_bytes=2 * len(first[0]))
    for image in ("a", "b", "a", "c"):
        await small.encode(image, 32, load)
    loaded.clear()
    for image in ("a", "c", "b"):
        await small.encode(image, 32, load)
    assert loaded == ["b"], "what was used last is held, as far as there is room"
    assert (await encodings.encode("a", None, load))[1] == "image/png"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
async def test_a_picture_at_hand_is_shown_as_the_stored_one_would_be(mode: str) -> None:
    stored, picture = verify_image(png(Image.new("RGBA", (64, 48), (200, 30, 40, 90)).convert(mode)), "server")
    encodings = EncodedImageCache()
    encodings.store("a", encode_jpegs(picture, {64, 16}))

    async def gone(image: str) -> bytes:
        raise FileNotFoundError(image)

    for side in (64, 16):
        assert await encodings.encode("a", side, gone) == encode_image(stored, side)
    assert picture.size == (64, 48), "what is at hand stays as it is"


def encoded(form: str, mode: str = "RGB", size: tuple[int, int] = (40, 24)) -> bytes:
    picture = Image.linear_gradient("L").resize(size).convert(mode)
    out = io.BytesIO()
    picture.save(out, form)
    return out.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "I;16"])
def test_png_is_handed_on_untouched(mode: str) -> None:
    data = encoded("PNG", mode)
    assert verify_png(data, "server") == (data, 40, 24)


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_other_formats_are_converted(form: str) -> None:
    data, width, height = verify_png(encoded(form), "server")
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        assert (picture.format, picture.size) == ("PNG", (40, 24))
    assert (width, height) == (40, 24)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<!DOCTYPE html><html></html>",
        b'{"error": "no"}',
        b"\x89PNG\r\n\x1a\n",
        encoded("GIF"),
        encoded("BMP"),
        bytes(1000),
    ],
    ids=["nothing", "html", "json", "signature", "gif", "bmp", "zeros"],
)
def test_what_is_no_picture(data: bytes) -> None:
    with pytest.raises(InvalidImageError) as caught:
        verify_png(data, "the painter")
    assert "the painter sent" in caught.value.message
    assert repr(data[:48]) in caught.value.message


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_picture(form: str, share: float) -> None:
    data = encoded(form, size=(400, 300))
    with pytest.raises(InvalidImageError):
        verify_png(data[: int(len(data) * share)], "server")


@pytest.mark.parametrize("side", [8001, 9500, 13_000, 30_000])
def test_bomb_is_not_opened(side: int) -> None:
    # Pillow itself is silent below 9459 pixels a side, warns from there and raises from 13377.
    assert side * side > MAX_PIXELS
    assert len(bomb(side)) < 1000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InvalidImageError, match="pixels"):
            verify_png(bomb(side), "server")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_damaged_pictures_raise_nothing_else(form: str) -> None:
    whole, dice = encoded(form), random.Random(5)
    refused = 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 8)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            verify_png(bytes(data), "server")
        except InvalidImageError:
            refused += 1
    assert refused > 0


def test_threads_leave_the_warning_filters_alone() -> None:
    before, interval = list(warnings.filters), sys.getswitchinterval()
    data = bomb(9600)

    def refuse(_number: int) -> bool:
        with pytest.raises(InvalidImageError):
            verify_png(data, "server")
        return True

    # Threads that change places often meet in the middle of what is not atomic.
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(refuse, range(1000)))
    finally:
        sys.setswitchinterval(interval)
    assert list(warnings.filters) == before
