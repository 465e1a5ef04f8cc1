"""Pictures that are mended, and whether what had to stay has stayed."""

from __future__ import annotations

from PIL import Image

from gems.models.images import decode_image, encode_png


def photo(size: tuple[int, int] = (64, 64)) -> bytes:
    """A picture with content everywhere, so that it can be aligned."""
    picture = Image.new("RGB", size)
    pixels = ((7 * x + 3 * y) % 256 for y in range(size[1]) for x in range(size[0]))
    picture.putdata([(level, 255 - level, (level * 5) % 256) for level in pixels])
    return encode_png(picture)


def mask(size: tuple[int, int], box: tuple[int, int, int, int]) -> bytes:
    """A mask that is white in a box."""
    picture = Image.new("L", size, 0)
    picture.paste(255, box)
    return encode_png(picture)


def is_kept_outside(before: bytes, after: bytes, box: tuple[int, int, int, int]) -> bool:
    """Whether two images are the same outside of a box, and not within."""
    one, other = decode_image(before, "test").convert("RGB"), decode_image(after, "test").convert("RGB")
    if one.size != other.size or one.tobytes() == other.tobytes():
        return False
    for picture in (one, other):
        picture.paste((0, 0, 0), box)
    return one.tobytes() == other.tobytes()
