"""Reading the text in a picture by OCR, on the CPU and without any network."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import threading
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
_MOST_ZOOM = 4
_LONGEST_SIDE = 2000
"""Pixels; what the reader shrinks to by itself, so enlarging beyond it is wasted."""
_MODELS = {"Det.model_path": "*_det_*.onnx", "Rec.model_path": "*_rec_*.onnx"}
_loading = threading.Lock()


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
        return await asyncio.get_running_loop().run_in_executor(_worker(), _read, png)


def in_reading_order(lines: Iterable[TextLine]) -> list[TextLine]:
    """Top to bottom; lines at about the same height form a row that goes from left to right."""
    rows: list[list[TextLine]] = []
    for line in sorted(lines, key=lambda line: line.top + line.bottom):
        # The row's first line decides: comparing with the last one would let a slanting column become a row.
        if rows and _beside(rows[-1][0], line):
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda line: line.left)]


def _beside(one: TextLine, other: TextLine) -> bool:
    shared = min(one.bottom, other.bottom) - max(one.top, other.top)
    return shared > 0.5 * min(one.height, other.height)


@cache
def _worker() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="gems-ocr")


@cache
def _engine() -> Any:
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


def _read(png: bytes) -> list[TextLine]:
    pixels, zoom = _prepared(png)
    engine = _engine()
    try:
        found = engine(pixels)
    except Exception as error:
        raise InternalError(f"Reading the text in a picture failed: {error}") from error
    if found.boxes is None or not found.txts:
        return []
    lines = [
        _line(text, score, box / zoom)
        for text, score, box in zip(found.txts, found.scores, found.boxes, strict=True)
        if text.strip()
    ]
    return in_reading_order(lines)


def _line(text: str, score: float, corners: NDArray[np.float64]) -> TextLine:
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


def _prepared(png: bytes) -> tuple[NDArray[np.uint8], float]:
    """The pixels in the package's order, blue first, and by how much they were enlarged."""
    try:
        with Image.open(io.BytesIO(png)) as opened:
            picture = opened.convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidImageError(f"The picture cannot be opened: {error}") from error
    ground = Image.new("RGBA", picture.size, "white")
    plain = Image.alpha_composite(ground, picture).convert("RGB")
    shorter, longer = sorted(plain.size)
    zoom = max(1.0, min(_SMALL_SIDE / shorter, _MOST_ZOOM, _LONGEST_SIDE / longer))
    if zoom > 1:
        plain = plain.resize(
            (round(plain.width * zoom), round(plain.height * zoom)), Image.Resampling.LANCZOS
        )
    return np.ascontiguousarray(np.asarray(plain)[:, :, ::-1]), zoom
