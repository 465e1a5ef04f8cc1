"""Masks: which are usable, and what they keep."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from gems.errors import EditingUnsupportedError, GemsError, OptionError
from gems.generation import GeneratedImage, GeneratorCapabilities, ImageRequest
from gems.models.images import encode_png, flatten_image
from gems.models.masks import check_edit, keep_outside, read_mask

SIZE = (40, 30)
LEFT = (0, 0, 20, 30)
EDITOR = GeneratorCapabilities(model="editor", default_size=SIZE, editing=True, references=2, strengths=True)


def png(color: object, mode: str = "RGB", size: tuple[int, int] = SIZE, box: tuple[int, ...] = (), inside: object = 0):
    picture = Image.new(mode, size, color)
    if box:
        picture.paste(inside, box)
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def left_half(mode: str = "L") -> bytes:
    black, white = ((0,) * len(mode), (255,) * len(mode)) if len(mode) > 1 else (0, 255)
    return png(black, mode, box=LEFT, inside=white)


def request(**more) -> ImageRequest:
    return ImageRequest(**{"prompt": "x", "seed": 1, "width": 40, "height": 30, "source": png("red"), **more})


@pytest.mark.parametrize(
    "mask",
    [left_half("L"), left_half("RGB"), left_half("1"), png((9, 9, 9, 255), "RGBA", box=LEFT, inside=(0, 0, 0, 0))],
)
def test_white_or_transparent_selects(mask: bytes) -> None:
    found = read_mask(mask, SIZE)
    assert (found.mode, found.getbbox(), found.getextrema()) == ("L", LEFT, (0, 255))


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (png(0, "L"), "selects nothing"),
        (png((0, 0, 0, 255), "RGBA"), "selects nothing"),
        (png(255, "L", size=(30, 40)), "30x40 pixels, the image 40x30"),
        (b"", "not a complete image"),
        (left_half()[:60], "not a complete image"),
    ],
)
def test_unusable_mask_says_why(mask: bytes, words: str) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        check_edit(request(mask=mask), EDITOR)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("asked", "kind", "words"),
    [
        ({"source": None, "mask": left_half()}, OptionError, "mask needs an image"),
        ({"source": None, "strength": 0.5}, OptionError, "strength needs an image"),
        ({"strength": 0.0}, OptionError, "strength: 0.0"),
        ({"strength": float("nan")}, OptionError, "strength: nan"),
        ({"references": (png("red"),) * 3}, EditingUnsupportedError, "at most 2 references"),
    ],
)
def test_request_that_does_not_fit_says_why(asked: dict, kind: type[GemsError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        check_edit(request(**asked), EDITOR)
    assert caught.value.hint


def test_generator_that_cannot_is_named() -> None:
    drawer = GeneratorCapabilities(model="drawer", default_size=SIZE)
    with pytest.raises(EditingUnsupportedError, match="drawer cannot edit"):
        check_edit(request(), drawer)
    with pytest.raises(EditingUnsupportedError, match="drawer takes no references"):
        check_edit(request(source=None, references=(png("red"),)), drawer)
    check_edit(request(source=None), drawer)


@pytest.mark.parametrize(
    ("source", "mode"),
    [(png("red"), "RGB"), (png((255, 0, 0, 77), "RGBA"), "RGBA"), (png(76, "L"), "RGB")],
    ids=["rgb", "rgba", "grey"],
)
@pytest.mark.parametrize("answer", ["RGB", "RGBA"])
@pytest.mark.parametrize("scale", [1, 2])
def test_outside_is_the_source_bit_for_bit(source: bytes, mode: str, answer: str, scale: int) -> None:
    before = Image.open(io.BytesIO(source))
    edited = flatten_image(before).convert(answer)
    edited.paste("blue", LEFT)
    data = encode_png(edited.resize((40 * scale, 30 * scale), Image.Resampling.NEAREST))
    image = GeneratedImage(data=data, width=1, height=1, seed=1, model="m", parameters={}, seconds=0.0)
    kept = keep_outside(image, request(source=source, mask=left_half()))
    result = Image.open(io.BytesIO(kept.data))
    right, inner = (20, 0, 40, 30), (0, 0, 14, 30)
    assert (result.mode, result.size, kept.width, kept.height) == (mode, SIZE, *SIZE)
    assert result.crop(right).tobytes() == before.convert(mode).crop(right).tobytes()
    assert result.convert("RGB").crop(inner).getcolors() == [(420, (0, 0, 255))]


def test_without_mask_nothing_is_changed() -> None:
    image = GeneratedImage(data=png("blue"), width=40, height=30, seed=1, model="m", parameters={}, seconds=0.0)
    assert keep_outside(image, request()) is image


def test_identity_of_a_request_includes_what_it_edits_with() -> None:
    asked = [request(), request(mask=left_half()), request(references=(png("red"),)), request(strength=0.5)]
    assert len({each.fingerprint("m") for each in asked}) == 4
