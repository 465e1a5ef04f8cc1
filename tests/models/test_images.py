"""Pictures as a chat model gets them."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from gems.models.images import EncodedImageCache, encode_image, encode_jpegs, verify_image


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
    stored, picture = verify_image(
        png(Image.new("RGBA", (64, 48), (200, 30, 40, 90)).convert(mode)), "server"
    )
    encodings = EncodedImageCache()
    encodings.store("a", encode_jpegs(picture, {64, 16}))

    async def gone(image: str) -> bytes:
        raise FileNotFoundError(image)

    for side in (64, 16):
        assert await encodings.encode("a", side, gone) == encode_image(stored, side)
    assert picture.size == (64, 48), "what is at hand stays as it is"
