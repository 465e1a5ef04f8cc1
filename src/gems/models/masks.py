"""Masks of edits: check them, and keep what is outside of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, floor

from PIL import Image, ImageChops, ImageFilter

from gems.errors import EditingUnsupportedError, InvalidImageError, OptionError
from gems.generation import GeneratedImage, GeneratorCapabilities, ImageRequest
from gems.models.images import decode_image, encode_png, flatten_image
from gems.models.registration import align

_THRESHOLD = 128
"""Darkest grey that counts as white."""
_MARGIN = 0.15
"""A box grows by this part of its sides in each direction, ..."""
_LEAST_MARGIN = 30
"""... at least so many thousandths of the image: an object's shadow and edge belong to it."""
_FEATHERED = 16
"""The feathered edge is this part of the mask's shorter side, ..."""
_MAX_FEATHER = 12
"""... at most so many pixels."""


def make_mask(boxes: Sequence[Sequence[int]], size: tuple[int, int], within: bytes | None = None) -> bytes:
    """Return a PNG of `size` (width and height in pixels) that is white in the boxes, each grown by a margin.

    Boxes are x1, y1, x2, y2 in thousandths of width and height from the upper left corner. Of another mask `within`
    which they lie, all of it is returned if they lie outside.
    """
    width, height = size
    mask = Image.new("L", size, 0)
    for x1, y1, x2, y2 in boxes:
        right, down = (max(_MARGIN * (to - start), _LEAST_MARGIN) for start, to in ((x1, x2), (y1, y2)))
        left, top = (
            max(0, floor((start - more) * side / 1000))
            for start, more, side in ((x1, right, width), (y1, down, height))
        )
        mask.paste(
            255,
            (left, top, min(width, ceil((x2 + right) * width / 1000)), min(height, ceil((y2 + down) * height / 1000))),
        )
    if within is not None:
        allowed = read_mask(within, size)
        inside = ImageChops.darker(mask, allowed)
        mask = inside if inside.getbbox() is not None else allowed
    return encode_png(mask)


def check_edit(request: ImageRequest, generator: GeneratorCapabilities) -> None:
    """Raise an error if `generator` cannot take the request's images or strength.

    Raises:
        EditingUnsupportedError: it takes no source, or not so many references.
        OptionError: a mask or a strength without a source, a strength that is out of range or has no effect, or a
            mask that cannot be used.
    """
    if request.source is not None and not generator.editing:
        raise EditingUnsupportedError(f"{generator.model} cannot edit images.")
    if len(request.references) > generator.references:
        most = f"at most {generator.references}" if generator.references else "no"
        hint = "Use fewer references, or a generator that takes more."
        raise EditingUnsupportedError(f"{generator.model} takes {most} references beside the source.", hint=hint)
    if request.strength is not None:
        if not generator.strengths:
            raise OptionError(f"{generator.model} has no strength of edits.", hint="Omit the strength.")
        if not 0 < request.strength <= 1:
            raise OptionError(f"Invalid strength: {request.strength}.", hint="Use a number above 0, at most 1.")
    if request.source is None and (request.mask is not None or request.strength is not None):
        given = "mask" if request.mask is not None else "strength"
        raise OptionError(f"A {given} needs an image to edit.", hint="Pass the source image, too.")
    if request.mask is not None:
        read_mask(request.mask, (request.width, request.height))


def read_mask(data: bytes, size: tuple[int, int] | None) -> Image.Image:
    """Return a mask as an image of mode L: 255 where the source is to be changed, else 0.

    A mask with transparency selects what is transparent (as OpenAI's masks do), another one what is white. `size` is
    that of the image in pixels, width and height; None if it is not known yet.

    Raises:
        OptionError: no image, of another size than `size`, or nothing is selected.
    """
    try:
        picture = decode_image(data, "The mask")
    except InvalidImageError as error:
        raise OptionError("Invalid mask: it is not a complete image.", hint="Use a PNG.") from error
    if size is not None and picture.size != size:
        what = f"The mask has {picture.width}x{picture.height} pixels, the image {size[0]}x{size[1]}."
        raise OptionError(what, hint="Use a mask of the size of the image.")
    if picture.mode == "RGBA" and min(picture.getchannel("A").tobytes()) < _THRESHOLD:
        levels = ImageChops.invert(picture.getchannel("A"))
    else:
        levels = flatten_image(picture).convert("L")
    mask = levels.point(lambda level: 255 if level >= _THRESHOLD else 0)
    if mask.getbbox() is None:
        hint = "Paint white what is to be changed, or make it transparent."
        raise OptionError("The mask selects nothing: it has no white pixel.", hint=hint)
    return mask


def keep_outside(image: GeneratedImage, request: ImageRequest) -> GeneratedImage:
    """Return `image` with the pixels of the source wherever the request's mask is not white, bit for bit. Blocking.

    An image of another size is scaled to that of the source; one that is shifted or has other colours is aligned first
    (`parameters["shift"]`, `parameters["recoloured"]`). Within the mask the edge is feathered. Returns the image
    unchanged if there is no mask.

    Raises:
        UnalignedEditError: outside the mask, the image has nothing to do with the source.
    """
    if request.source is None or request.mask is None:
        return image
    source = decode_image(request.source, "The source")
    edited = image.pixels if image.pixels is not None else decode_image(image.data, image.model)
    if edited.size != source.size:
        edited = edited.resize(source.size, Image.Resampling.LANCZOS)
    mask = read_mask(request.mask, source.size)
    plain = flatten_image(edited)
    aligned = align(plain, flatten_image(source), mask)
    mode = "RGBA" if source.has_transparency_data else "RGB"
    inside = edited if mode == "RGBA" and aligned.image is plain else aligned.image
    merged = source.convert(mode)
    merged.paste(inside.convert(mode), mask=feather_mask(mask))
    parameters = dict(image.parameters)
    if aligned.shift != (0, 0):
        parameters["shift"] = list(aligned.shift)
    if aligned.recoloured:
        parameters["recoloured"] = True
    width, height = source.size
    return replace(image, data=encode_png(merged), width=width, height=height, parameters=parameters, pixels=merged)


def lock_outside(image: GeneratedImage, source: bytes, mask: bytes) -> GeneratedImage:
    """Return `image` as `keep_outside` does, unless it is as the source outside the mask already. Blocking.

    Generators keep it themselves; a user's own may not, and one that draws in another size cannot.
    """
    before = decode_image(source, "The source")
    selected = read_mask(mask, before.size)
    after = image.pixels if image.pixels is not None else decode_image(image.data, image.model)
    mode = "RGBA" if before.has_transparency_data else "RGB"
    if after.size == before.size:
        gap = ImageChops.difference(after.convert(mode), before.convert(mode))
        gap.paste((0,) * len(mode), mask=selected)
        if gap.getbbox(alpha_only=False) is None:
            return image
    width, height = before.size
    request = ImageRequest(prompt="", seed=0, width=width, height=height, source=source, mask=mask)
    return keep_outside(image, request)


def fit_change(source: bytes, mask: bytes | None, size: tuple[int, int]) -> tuple[bytes, bytes | None]:
    """Return an image and its mask scaled to `size`, width and height in pixels, as a generator draws it. Blocking."""
    picture = decode_image(source, "The source")
    if picture.size == size:
        return source, mask
    selected = (
        None if mask is None else encode_png(read_mask(mask, picture.size).resize(size, Image.Resampling.NEAREST))
    )
    return encode_png(picture.resize(size, Image.Resampling.LANCZOS)), selected


def feather_mask(mask: Image.Image) -> Image.Image:
    """Return the mask with an edge that rises inwards, and is black wherever the mask is."""
    left, top, right, bottom = mask.getbbox() or (0, 0, 0, 0)
    radius = min(right - left, bottom - top, _MAX_FEATHER * _FEATHERED) // _FEATHERED
    if not radius:
        return mask
    # Half of the blurred edge lies outside: what is left of it begins at the edge of the mask.
    soft = mask.filter(ImageFilter.BoxBlur(radius)).point(lambda level: max(0, 2 * level - 255))
    soft = ImageChops.darker(soft, mask)
    # Thin strokes would vanish.
    return soft if soft.getextrema()[1] == 255 else mask
