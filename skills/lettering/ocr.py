"""Reading the text in a picture by OCR, on the CPU and without any network."""

from __future__ import annotations

import asyncio
import importlib.util
import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gems.errors import InternalError, InvalidImageError, MissingExtraError, ModelFilesError

_PACKAGES = ("rapidocr", "onnxruntime", "rapidfuzz")
_SMALL_SIDE = 640
"""Pixels; a picture whose shorter side has fewer is enlarged, since letters below 12 pixels are guessed."""
_LARGE_SIDE = 900
"""Pixels; a picture whose shorter side has as many is read reduced as well: of large letters, single ones are
overlooked at full size, where small print needs it."""
_LARGE_LETTERS = 56
"""Pixels of a line's height from which the reduced picture is believed first."""
_MOST_ZOOM = 4
_LONGEST_SIDE = 2000
"""Pixels; what the reader shrinks to by itself, so enlarging beyond it is wasted."""
_MODELS = {"Det.model_path": "*_det_*.onnx", "Rec.model_path": "*_rec_*.onnx"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLine:
    """A line of text in a picture.

    Attributes:
        text: As it was read.
        confidence: In [0, 1]; higher is surer.
        left: Pixels from the picture's left edge; `right` likewise.
        top: Pixels from the picture's upper edge; `bottom` likewise.
        right: Beyond `left`.
        bottom: Below `top`.
    """

    text: str
    confidence: float
    left: int
    top: int
    right: int
    bottom: int

    @property
    def height(self) -> int:
        """Pixels."""
        return self.bottom - self.top


class TextReader(Protocol):
    """Something that reads the text in pictures."""

    async def read(self, png: bytes) -> list[TextLine]:
        """The lines from top to bottom; those at about the same height from left to right.

        Raises:
            GemsError: the picture cannot be read; a picture without text is no error.
        """
        ...


class RapidReader:
    """Reads Latin letters, Chinese and Japanese with the models that the package rapidocr carries.

    All readers of a process share one loaded model and one thread, in which pictures wait for each other.

    Raises:
        MissingExtraError: rapidocr or what it needs is not installed.
    """

    def __init__(self) -> None:
        if not self.is_installed():
            raise MissingExtraError("Reading the text in pictures", "ocr")

    @staticmethod
    def is_installed() -> bool:
        """Whether the packages are there; they are looked for, not imported."""
        return all(importlib.util.find_spec(package) is not None for package in _PACKAGES)

    async def read(self, png: bytes) -> list[TextLine]:
        """See `TextReader`.

        Raises:
            InvalidImageError: the bytes are not an image.
            ModelFilesError: the package lacks its models.
            InternalError: the package failed.
        """
        return await asyncio.get_running_loop().run_in_executor(_ocr_thread(), _read_png, png)


def sort_lines(lines: Iterable[TextLine]) -> list[TextLine]:
    """Top to bottom; lines at about the same height form a row that goes from left to right."""
    rows: list[list[TextLine]] = []
    for line in sorted(lines, key=lambda line: line.top + line.bottom):
        # The row's first line decides: comparing with the last one would let a slanting column become a row.
        if rows and _are_in_same_row(rows[-1][0], line):
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda line: line.left)]


def _are_in_same_row(one: TextLine, other: TextLine) -> bool:
    shared = min(one.bottom, other.bottom) - max(one.top, other.top)
    return shared > 0.5 * min(one.height, other.height)


@cache
def _ocr_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="gems-ocr")


@cache
def _load_engine() -> Any:
    """The loaded package; only the worker's thread uses it."""
    from rapidocr import RapidOCR  # noqa: PLC0415 - takes half a second and is optional

    package = importlib.util.find_spec("rapidocr")
    folder = Path(package.origin).parent / "models" if package and package.origin else Path()
    # Lines are not tried upside down: that turns short words such as NO round and gains nothing in pictures.
    params: dict[str, Any] = {"Global.log_level": "critical", "Global.use_cls": False}
    for option, pattern in _MODELS.items():
        # Without a path the package may look for its models on the network.
        found = sorted(folder.glob(pattern))
        if not found:
            raise ModelFilesError(
                "The package rapidocr lacks the models that its wheel carries.",
                hint="Install it anew: pip install --force-reinstall rapidocr",
            )
        params[option] = str(found[0])
    return RapidOCR(params=params)


def _read_png(png: bytes) -> list[TextLine]:
    picture = _open_image(png)
    shorter, longer = sorted(picture.size)
    fine = _detect_lines(picture, max(1.0, min(_SMALL_SIDE / shorter, _MOST_ZOOM, _LONGEST_SIDE / longer)))
    if shorter < _LARGE_SIDE:
        return sort_lines(fine)
    coarse = _detect_lines(picture, _SMALL_SIDE / shorter)
    # Reduced lines of small print may run together, as high as large letters: the full size tells.
    large = [
        line
        for line in coarse
        if line.height >= _LARGE_LETTERS
        and all(2 * other.height >= line.height for other in fine if _overlaps(line, other))
    ]
    return sort_lines(_drop_overlapping([*large, *fine, *coarse]))


def _drop_overlapping(lines: Iterable[TextLine]) -> list[TextLine]:
    """Lines that do not cover one that went before."""
    kept: list[TextLine] = []
    for line in lines:
        if not any(_overlaps(line, other) for other in kept):
            kept.append(line)
    return kept


def _overlaps(one: TextLine, other: TextLine) -> bool:
    across = min(one.right, other.right) - max(one.left, other.left)
    down = min(one.bottom, other.bottom) - max(one.top, other.top)
    smaller = min((line.right - line.left) * line.height for line in (one, other))
    return across > 0 and down > 0 and across * down > 0.3 * smaller


def _detect_lines(picture: Image.Image, zoom: float) -> list[TextLine]:
    """The lines that are read at a scale, in no order, with their places in the picture as it is."""
    size = (max(1, round(picture.width * zoom)), max(1, round(picture.height * zoom)))
    scaled = picture if zoom == 1 else picture.resize(size, Image.Resampling.LANCZOS)
    # The package expects blue first.
    pixels = np.ascontiguousarray(np.asarray(scaled)[:, :, ::-1])
    engine = _load_engine()
    try:
        found = engine(pixels)
    except Exception as error:
        raise InternalError(f"Reading the text in a picture failed: {error}") from error
    if found.boxes is None or not found.txts:
        return []
    return [
        _to_text_line(text, score, box / zoom)
        for text, score, box in zip(found.txts, found.scores, found.boxes, strict=True)
        if text.strip()
    ]


def _to_text_line(text: str, score: float, corners: NDArray[np.float64]) -> TextLine:
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    edges: Sequence[int] = [round(float(edge)) for edge in (left, top, right, bottom)]
    return TextLine(
        text=text.strip(),
        confidence=min(1.0, max(0.0, float(score))),
        left=edges[0],
        top=edges[1],
        right=edges[2],
        bottom=edges[3],
    )


def _open_image(png: bytes) -> Image.Image:
    """The picture without transparency, on white."""
    try:
        with Image.open(io.BytesIO(png)) as opened:
            picture = opened.convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidImageError(f"The picture cannot be opened: {error}") from error
    ground = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(ground, picture).convert("RGB")
