"""Sizes that cannot be drawn go to the nearest that can."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gems.apps.server.openai.errors import AnswerError
from gems.apps.server.openai.runs import supported_size
from gems.generation import GeneratorCapabilities
from gems.options import parse_size

FIXED = GeneratorCapabilities(
    model="fixed", default_size=(1024, 1024), sizes=((1024, 1024), (1536, 1024), (1024, 1536))
)
STEPPED = GeneratorCapabilities(
    model="stepped", default_size=(1024, 1024), size_multiple=16, min_side=200, max_side=2040
)

BOUNDED = GeneratorCapabilities(
    model="bounded",
    default_size=(1024, 1024),
    size_multiple=16,
    max_side=3840,
    min_pixels=655_360,
    max_pixels=8_294_400,
)


@pytest.mark.parametrize("size", [None, "", "auto", " AUTO "])
def test_the_generators_own(size: str | None) -> None:
    assert supported_size(size, FIXED) is None


@pytest.mark.parametrize(
    ("size", "drawn"),
    [
        ("1024x1024", "1024x1024"),
        ("256x256", "1024x1024"),
        ("1792x1024", "1536x1024"),
        ("1024x1792", "1024x1536"),
        ("0x0", "1024x1024"),
    ],
)
def test_the_nearest_shape_of_a_few(size: str, drawn: str) -> None:
    assert supported_size(size, FIXED) == drawn


@pytest.mark.parametrize(
    ("size", "drawn"),
    [
        ("1000x1000", "992x992"),
        ("512x768", "512x768"),
        ("4080x2040", "2032x1024"),
        ("100x100", "208x208"),
        ("99999x1", "2032x208"),
    ],
)
def test_the_nearest_within_limits(size: str, drawn: str) -> None:
    assert supported_size(size, STEPPED) == drawn


@pytest.mark.parametrize(
    ("size", "drawn"),
    [("256x256", "816x816"), ("800x820", "800x832"), ("3840x3840", "2880x2880"), ("3840x16", "1024x1024")],
)
def test_the_nearest_with_so_many_pixels(size: str, drawn: str) -> None:
    assert supported_size(size, BOUNDED) == drawn


@given(st.integers(0, 99_999), st.integers(0, 99_999))
def test_whatever_is_asked_for_can_be_drawn(width: int, height: int) -> None:
    for generator in (FIXED, STEPPED, BOUNDED):
        drawn = supported_size(f"{width}x{height}", generator)
        assert drawn is not None
        generator.check_size(*parse_size(drawn))


@pytest.mark.parametrize("size", ["large", "1024", "-1x5", "1e3x5"])
def test_what_is_no_size_is_refused(size: str) -> None:
    with pytest.raises(AnswerError):
        supported_size(size, FIXED)
