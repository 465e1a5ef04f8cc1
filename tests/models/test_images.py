"""Images verified, converted and encoded for chat models."""

from __future__ import annotations

import base64
import io
import random
import struct
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import pytest
from PIL import Image, ImageCms, PngImagePlugin

from gems.errors import InvalidImageError, MissingExtraError
from gems.memory.source_images import read_png, read_source_image
from gems.models.images import (
    MAX_PIXELS,
    EncodedImageCache,
    decode_image,
    encode_image,
    encode_jpegs,
    shrink_image,
    unpack_base64,
    verify_image,
)
from tests.security.test_image_bombs import chunk
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
        ((400, 200), 100, (141, 70)),
        ((200, 400), 100, (70, 141)),
        ((100, 100), 100, (100, 100)),
        ((60, 30), 100, (60, 30)),
        ((1000, 1), 100, (400, 1)),
        ((1664, 928), 1255, (1664, 928)),
        ((1536, 1024), 1255, (1536, 1024)),
        ((4000, 4000), 1255, (1255, 1255)),
        ((4000, 1000), 1255, (2510, 627)),
    ],
)
def test_large_pictures_are_scaled_down_by_area_and_small_ones_left(
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
    assert opened(first[0]).size == (45, 22)
    assert opened((await encodings.encode("a", 16, load))[0]).size == (22, 11)
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


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_png_is_handed_on_untouched(mode: str) -> None:
    data = encoded("PNG", mode)
    kept, picture = verify_image(data, "server")
    assert (kept, picture.size) == (data, (40, 24))


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "GIF", "AVIF"])
def test_other_formats_are_converted(form: str) -> None:
    data, shown = verify_image(encoded(form), "server")
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        assert (picture.format, picture.size) == ("PNG", (40, 24))
    assert shown.size == (40, 24)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<!DOCTYPE html><html></html>",
        b'{"error": "no"}',
        b"\x89PNG\r\n\x1a\n",
        encoded("TIFF"),
        encoded("BMP"),
        bytes(1000),
    ],
    ids=["nothing", "html", "json", "signature", "tiff", "bmp", "zeros"],
)
def test_what_is_no_picture(data: bytes) -> None:
    with pytest.raises(InvalidImageError) as caught:
        verify_image(data, "the painter")
    assert "the painter sent" in caught.value.message
    assert repr(data[:48]) in caught.value.message


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "AVIF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_picture(form: str, share: float) -> None:
    data = encoded(form, size=(400, 300))
    with pytest.raises(InvalidImageError):
        verify_image(data[: int(len(data) * share)], "server")


@pytest.mark.parametrize("side", [8001, 9500, 13_000, 30_000])
def test_bomb_is_not_opened(side: int) -> None:
    # Pillow itself is silent below 9459 pixels a side, warns from there and raises from 13377.
    assert side * side > MAX_PIXELS
    assert len(bomb(side)) < 1000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InvalidImageError, match="pixels"):
            verify_image(bomb(side), "server")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "AVIF"])
def test_damaged_pictures_raise_nothing_else(form: str) -> None:
    whole, dice = encoded(form), random.Random(5)
    refused = 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 8)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            verify_image(bytes(data), "server")
        except InvalidImageError:
            refused += 1
    assert refused > 0


def test_threads_leave_the_warning_filters_alone() -> None:
    before, interval = list(warnings.filters), sys.getswitchinterval()
    data = bomb(9600)

    def refuse(_number: int) -> bool:
        with pytest.raises(InvalidImageError):
            verify_image(data, "server")
        return True

    # Threads that change places often meet in the middle of what is not atomic.
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(refuse, range(1000)))
    finally:
        sys.setswitchinterval(interval)
    assert list(warnings.filters) == before


# What is in files of all kinds, by every entrance.

RED, CLEAR = (255, 0, 0, 255), (0, 0, 255, 0)


def saved(picture: Image.Image, form: str, **more: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **more)
    return out.getvalue()


def half_clear(mode: str = "RGBA") -> Image.Image:
    """Left half opaque red, right half transparent blue."""
    picture = Image.new("RGBA", (16, 8), RED)
    picture.paste(CLEAR, (8, 0, 16, 8))
    return picture.convert(mode)


def with_palette() -> bytes:
    picture = Image.new("P", (16, 8), 0)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.paste(1, (8, 0, 16, 8))
    return saved(picture, "PNG", transparency=1)


def lone_colour() -> bytes:
    return saved(half_clear("RGB"), "PNG", transparency=(0, 0, 255))


def raw_png(depth: int, kind: int, rows: bytes, *chunks: bytes, size: tuple[int, int] = (2, 1)) -> bytes:
    header = struct.pack(">IIBBBBB", *size, depth, kind, 0, 0, 0)
    parts = chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def upright(form: str, orientation: int = 6) -> bytes:
    """A picture that lies on its side, and EXIF data that say so: upright, its top is red."""
    picture = Image.new("RGB", (16, 8), "blue")
    picture.paste("red", (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(picture, form, exif=exif, **({"quality": 95} if form != "PNG" else {}))


def animated(form: str) -> bytes:
    frames = [Image.new("RGB", (16, 8), colour) for colour in ("red", "blue")]
    return saved(frames[0], form, save_all=True, append_images=frames[1:], duration=100)


def with_profile(form: str, mode: str = "RGB") -> bytes:
    """Pure red of a colour space in which red and green have changed places."""
    # An ICC profile of matrix form: sRGB's, with the tags of its red and green columns swapped.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"tmpX").replace(b"gXYZ", b"rXYZ").replace(b"tmpX", b"gXYZ")
    named = swapped.replace("sRGB".encode("utf-16-be"), "qRGB".encode("utf-16-be"))
    return saved(Image.new(mode, (16, 8), (255, 0, 0)), form, icc_profile=named)


def shown_by_all(data: bytes) -> Image.Image:
    """The picture in RGBA, after all entrances have agreed on it."""
    by_generator = decode_image(verify_image(data, "server")[0], "store").convert("RGBA")
    by_source = decode_image(read_source_image(data).png, "store").convert("RGBA")
    by_verify = decode_image(read_png(data), "store").convert("RGBA")
    assert by_generator.tobytes() == by_source.tobytes() == by_verify.tobytes()
    assert verify_image(data, "server")[1].convert("RGBA").tobytes() == by_source.tobytes()
    return by_source


def pixel(picture: Image.Image, x: int, y: int) -> tuple[int, ...]:
    found = picture.getpixel((x, y))
    assert isinstance(found, tuple)
    return found


def is_mostly(colour: tuple[int, ...], channel: int) -> bool:
    """Whether red, green or blue is strong, and the two others weak."""
    others = [value for index, value in enumerate(colour[:3]) if index != channel]
    return colour[channel] > 200 and max(others) < 60


@pytest.mark.parametrize(
    "data",
    [
        saved(half_clear(), "PNG"),
        saved(half_clear(), "WEBP", lossless=True, exact=True),
        saved(half_clear(), "WEBP", quality=100),
        saved(half_clear(), "GIF"),
        saved(half_clear(), "AVIF", quality=100),
        with_palette(),
        lone_colour(),
    ],
    ids=["RGBA", "WebP", "WebP-lossy", "GIF", "AVIF", "palette", "colour"],
)
def test_alpha_is_kept_and_shown_on_white(data: bytes) -> None:
    picture = shown_by_all(data)
    assert (pixel(picture, 1, 4)[3], pixel(picture, 14, 4)[3]) == (255, 0)
    for side in (100, None):
        judged = opened(encode_image(verify_image(data, "server")[0], side)[0]).convert("RGB")
        red, white = pixel(judged, 2, 4), pixel(judged, 14, 4)
        assert is_mostly(red, 0)
        assert min(white) > 245
    assert min(pixel(opened(shrink_image(data, 1)).convert("RGB"), 14, 4)) > 230


def test_grey_with_alpha() -> None:
    picture = shown_by_all(saved(half_clear("LA"), "PNG"))
    assert pixel(picture, 14, 4)[3] == 0
    assert pixel(picture, 1, 4) == (76, 76, 76, 255)


def test_sixteen_bits_are_scaled() -> None:
    grey = raw_png(16, 0, b"\0" + struct.pack(">HH", 0x8000, 0xFFFF))
    assert [pixel(shown_by_all(grey), x, 0)[0] for x in (0, 1)] == [128, 255]
    clear = raw_png(16, 0, b"\0" + struct.pack(">HH", 0x8000, 0x8001), chunk(b"tRNS", struct.pack(">H", 0x8000)))
    assert [pixel(shown_by_all(clear), x, 0)[3] for x in (0, 1)] == [0, 255]
    rows = b"\0" + struct.pack(">HHHHHH", 0x8000, 0, 0xFFFF, 0, 0xFFFF, 0)
    coloured = raw_png(16, 2, rows, chunk(b"tRNS", struct.pack(">HHH", 0, 0xFFFF, 0)))
    assert [pixel(shown_by_all(coloured), x, 0) for x in (0, 1)] == [(128, 0, 255, 255), (0, 255, 0, 0)]
    both = raw_png(16, 4, b"\0" + struct.pack(">HHHH", 0x4000, 0xFFFF, 0xFFFF, 0))
    assert [pixel(shown_by_all(both), x, 0) for x in (0, 1)] == [(64, 64, 64, 255), (255, 255, 255, 0)]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_pictures_are_turned_upright(form: str) -> None:
    picture = shown_by_all(upright(form))
    assert picture.size == (8, 16)
    top, bottom = pixel(picture, 4, 2), pixel(picture, 4, 13)
    assert is_mostly(top, 0)
    assert is_mostly(bottom, 2)
    # Once turned it says so no more.
    again, _ = verify_image(verify_image(upright(form), "server")[0], "server")
    assert opened(again).size == (8, 16)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "AVIF"])
def test_the_first_frame_counts(form: str) -> None:
    assert getattr(opened(animated(form)), "n_frames", 1) == 2
    data, _ = verify_image(animated(form), "server")
    assert getattr(opened(data), "n_frames", 1) == 1
    assert is_mostly(pixel(shown_by_all(animated(form)), 4, 4), 0)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_colour_profiles_are_converted(form: str) -> None:
    assert is_mostly(pixel(shown_by_all(with_profile(form)), 4, 4), 1)
    assert "icc_profile" not in opened(verify_image(with_profile(form), "server")[0]).info


def test_profiles_that_change_nothing() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = saved(Image.new("RGB", (16, 8), (200, 30, 40)), "PNG", icc_profile=srgb)
    assert verify_image(data, "server")[0] == data
    for profile in (b"no profile", srgb[:200], srgb.replace(b"RGB ", b"GRAY")):
        damaged = saved(Image.new("RGB", (16, 8), (200, 30, 40)), "PNG", icc_profile=profile)
        assert pixel(shown_by_all(damaged), 4, 4) == (200, 30, 40, 255)


def test_four_inks() -> None:
    picture = shown_by_all(saved(Image.new("CMYK", (16, 8), (0, 255, 255, 0)), "JPEG", quality=95))
    assert is_mostly(pixel(picture, 4, 4), 0)


def annotated(**texts: str) -> bytes:
    words = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        words.add_text(name, text, zip=True)
        words.add_itxt(name, text, zip=True)
    return saved(Image.new("RGB", (16, 8), "red"), "PNG", pnginfo=words)


def test_much_text_in_a_picture_is_ignored() -> None:
    data = annotated(workflow="node " * 2_000_000)
    assert len(data) < 200_000
    with pytest.raises(ValueError, match="Decompressed data too large"):
        opened(data)
    assert pixel(shown_by_all(data), 4, 4) == RED
    stored, _ = verify_image(data, "server")
    assert opened(stored).info == {}
    assert stored == verify_image(annotated(), "server")[0]
    # What follows the picture is not part of it.
    assert verify_image(data + b"private", "server")[0] == stored


def test_heic_without_its_package() -> None:
    if find_spec("pillow_heif"):
        pytest.skip("the package is there")
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    with pytest.raises(MissingExtraError, match=r"gems-agent\[heif\]"):
        verify_image(data, "server")


def test_heic() -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    data = saved(half_clear(), "HEIF", quality=-1)
    picture = shown_by_all(data)
    assert (pixel(picture, 1, 4)[3], pixel(picture, 14, 4)[3]) == (255, 0)
    turned = saved(opened(upright("PNG")), "HEIF", quality=-1)
    assert shown_by_all(turned).size == (8, 16)
    for share in (0.2, 0.6, 0.9):
        with pytest.raises(InvalidImageError):
            verify_image(data[: int(len(data) * share)], "server")


WHOLE = bytes(range(256)) * 3 + b"\xff\xfb"
PLAIN = base64.b64encode(WHOLE).decode()
LINES = base64.encodebytes(WHOLE).decode()


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        LINES,
        LINES.replace("\n", "\r\n"),
        LINES.replace("\n", "\\n"),
        f" \n{PLAIN} ",
        PLAIN.rstrip("="),
        base64.urlsafe_b64encode(WHOLE).decode(),
        base64.urlsafe_b64encode(WHOLE).decode().rstrip("="),
        f"data:image/png;base64,{PLAIN}",
        f"DATA:Image/PNG;charset=utf-8;BASE64,{LINES}",
        f"data:;base64,{PLAIN}",
        f"base64,{PLAIN}",
        f'"{PLAIN}"',
        f"'data:image/png;base64,{PLAIN}'",
        repr(base64.b64encode(WHOLE)),
        PLAIN.replace("/", "\\/"),
        f"data:image/png;base64,{PLAIN.replace('+', '%2B').replace('/', '%2F').replace('=', '%3D')}",
    ],
)
def test_base64_in_every_dress(text: str) -> None:
    assert unpack_base64(text) == WHOLE


@pytest.mark.parametrize("text", ["not base64!", "abcde", "äöü", "data:image/png,raw?", "http://host/a.png"])
def test_what_is_no_base64(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack_base64(text)
