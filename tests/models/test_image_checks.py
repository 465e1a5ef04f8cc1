"""Bytes from outside are believed only once they have been opened as a picture."""

import io
import random
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from gems.errors import InvalidImageError
from gems.models.images import MAX_PIXELS, verify_png
from tests.support.stub.faults import bomb


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
