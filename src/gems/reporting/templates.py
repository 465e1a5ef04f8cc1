"""Jinja environment, thumbnails, prompt diffs."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from gems.errors import StorageError
from gems.memory.images import ImageStore
from gems.models.images import decode_image

_WORD = re.compile(r"\S+\s*|\s+")
_MIN_SHARED = 0.25
"""Prompts with less in common are shown completely: a mixture of both would be unreadable."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a prompt: unchanged, new or removed."""

    kind: Literal["same", "new", "gone"]
    text: str


def diff_prompts(before: str, after: str) -> list[Piece]:
    """Return the words of `after`, with new ones marked, and between them the removed ones of `before`."""
    old, new = _WORD.findall(before), _WORD.findall(after)
    start = _common_prefix(old, new)
    end = _common_prefix(old[start:][::-1], new[start:][::-1])
    # Strip the common parts first: this makes comparing long prompts with few changes fast.
    middle_old, middle_new = old[start : len(old) - end], new[start : len(new) - end]
    # Trailing whitespace does not make a different word.
    stripped_old, stripped_new = [w.rstrip() for w in middle_old], [w.rstrip() for w in middle_new]
    matcher = SequenceMatcher(None, stripped_old, stripped_new, autojunk=False)
    pieces = [Piece("same", "".join(new[:start]))]
    if start + end < _MIN_SHARED * len(new) and matcher.ratio() < _MIN_SHARED:
        pieces.append(Piece("new", "".join(middle_new)))
    else:
        for tag, i, j, k, m in matcher.get_opcodes():
            if tag == "equal":
                pieces.append(Piece("same", "".join(middle_new[k:m])))
            else:
                # Removed words come first, as in a corrected text.
                pieces.append(Piece("gone", "".join(middle_old[i:j])))
                pieces.append(Piece("new", "".join(middle_new[k:m])))
    pieces.append(Piece("same", "".join(new[len(new) - end :])))
    return [piece for piece in pieces if piece.text]


def _common_prefix(first: list[str], second: list[str]) -> int:
    """Count the words with which both begin."""
    pairs = zip(first, second, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """An image on a page; if it is missing, `url` is empty and `why` has the reason."""

    url: str = ""
    width: int = 0
    height: int = 0
    why: str = ""


async def load_images(images: ImageStore, image_ids: set[str]) -> dict[str, bytes | str]:
    """Load PNG bytes by image id; an error message for images that cannot be loaded."""
    loaded: dict[str, bytes | str] = {}
    for image in image_ids:
        try:
            loaded[image] = await images.load(image)
        except StorageError as error:
            # The page shows the message instead of the image.
            loaded[image] = error.message
    return loaded


def make_thumbnail(png: bytes | str, side: int) -> Thumbnail:
    """Return an image as a WebP data URL, scaled down to `side` pixels; or an error message as it is."""
    if isinstance(png, str):
        return Thumbnail(why=png)
    opened = decode_image(png, "The store")
    picture = opened.convert("RGBA" if opened.has_transparency_data else "RGB")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=82, method=4)
    encoded = base64.b64encode(out.getvalue()).decode()
    return Thumbnail(f"data:image/webp;base64,{encoded}", *picture.size)


def environment(package: str) -> Environment:
    """Return the Jinja environment for the templates of a package; everything passed to them is escaped."""
    jinja = Environment(
        # Everything is data: prompts, answers, model names.
        autoescape=True,
        loader=PackageLoader(package, ""),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {"percent": percent, "usd": usd, "duration": duration}
    return jinja


def policy_hash(text: str) -> str:
    """Return the hash by which a content security policy allows a style or a script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def percent(share: float) -> str:
    """Format a share in [0, 1] as a percentage."""
    # Rounded down: only 1.0 may be shown as 100 %.
    return f"{int(share * 100 + 1e-9)} %"


def usd(amount: float | None) -> str:
    """Format US dollars."""
    if amount is None:
        return "not known"
    return f"${amount:,.4f}" if 0 < amount < 0.01 else f"${amount:,.2f}"


def duration(seconds: float) -> str:
    """Format seconds as seconds, minutes or hours."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"
