"""Read the text in an image by OCR, on the CPU and offline."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gems.errors import InternalError, MissingExtraError, ModelFilesError
from gems.models.images import open_flat

_PACKAGES = ("rapidocr", "onnxruntime")
_SMALL_SIDE = 640
"""Pixels; images with a shorter side below this are enlarged, since letters below 12 pixels are misread."""
_LARGE_SIDE = 900
"""Pixels; images with a shorter side of at least this are also read reduced: at full size, which small print
needs, the reader overlooks single large letters.
"""
_LARGE_LETTERS = 56
"""Line height in pixels from which the reduced reading takes precedence."""
_MOST_ZOOM = 4
_LONGEST_SIDE = 2000
"""Pixels; the reader shrinks images to this size, so enlarging beyond it is useless."""
_MODELS = {"Det.model_path": "*_det_*.onnx", "Rec.model_path": "*_rec_*.onnx"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLine:
    """A line of text in an image, with its edges in pixels and a confidence in [0, 1]."""

    text: str
    confidence: float
    left: int
    top: int
    right: int
    bottom: int

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.bottom - self.top


class TextReader(Protocol):
    """Reads the text in images."""

    async def read(self, png: bytes) -> list[TextLine]:
        """Return the lines from top to bottom; those at about the same height from left to right.

        Raises:
            GemsError: The image cannot be read; an image without text is no error.
        """
        ...


class RapidReader:
    """Reads Latin letters, Chinese and Japanese with the models that the package rapidocr contains.

    All readers of a process share one loaded model and one thread, which reads one image at a time.

    Raises:
        MissingExtraError: rapidocr or a dependency is not installed.
    """

    def __init__(self) -> None:
        if not self.is_installed():
            raise MissingExtraError("Reading the text in pictures", "ocr")

    @staticmethod
    def is_installed() -> bool:
        """Return whether the packages are installed, without importing them."""
        return all(importlib.util.find_spec(package) is not None for package in _PACKAGES)

    async def read(self, png: bytes) -> list[TextLine]:
        """Read an image; raises InvalidImageError, ModelFilesError or InternalError."""
        return await asyncio.get_running_loop().run_in_executor(_ocr_thread(), _read_png, png)


def sort_lines(lines: Iterable[TextLine]) -> list[TextLine]:
    """Sort lines from top to bottom, and from left to right within a row of about the same height."""
    rows: list[list[TextLine]] = []
    for line in sorted(lines, key=lambda line: line.top + line.bottom):
        # Compare with the row's first line: with the last one, a slanting column would become a row.
        first = rows[-1][0] if rows else line
        shared = min(first.bottom, line.bottom) - max(first.top, line.top)
        if rows and shared > 0.5 * min(first.height, line.height):
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda line: line.left)]


@cache
def _ocr_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="gems-ocr")


@cache
def _load_engine() -> Any:
    """Load the package's engine; only the OCR thread uses it."""
    from rapidocr import RapidOCR  # noqa: PLC0415 - takes half a second and is optional

    package = importlib.util.find_spec("rapidocr")
    folder = Path(package.origin).parent / "models" if package and package.origin else Path()
    # No check for upside-down lines: it misreads short words such as NO and gains nothing in images.
    params: dict[str, Any] = {"Global.log_level": "critical", "Global.use_cls": False}
    # Its threads spin while they wait: on two busy cores two of them take three times as long as one.
    params["EngineConfig.onnxruntime.intra_op_num_threads"] = 1
    for option, pattern in _MODELS.items():
        # Without a path the package may download its models.
        found = sorted(folder.glob(pattern))
        if not found:
            raise ModelFilesError(
                "The package rapidocr lacks the models that its wheel contains.",
                hint="Reinstall it: pip install --force-reinstall rapidocr",
            )
        params[option] = str(found[0])
    return RapidOCR(params=params)


def _read_png(png: bytes) -> list[TextLine]:
    picture = open_flat(png)
    shorter, longer = sorted(picture.size)
    fine = _detect_lines(picture, max(1.0, min(_SMALL_SIDE / shorter, _MOST_ZOOM, _LONGEST_SIDE / longer)))
    if shorter < _LARGE_SIDE:
        return sort_lines(fine)
    coarse = _detect_lines(picture, _SMALL_SIDE / shorter)
    # Reduced lines of small print may merge and be as high as large letters; the full size decides.
    large = [
        line
        for line in coarse
        if line.height >= _LARGE_LETTERS
        and all(2 * other.height >= line.height for other in fine if _overlaps(line, other))
    ]
    kept: list[TextLine] = []
    for line in (*large, *fine, *coarse):
        if not any(_overlaps(line, other) for other in kept):
            kept.append(line)
    return sort_lines(kept)


def _overlaps(one: TextLine, other: TextLine) -> bool:
    across = min(one.right, other.right) - max(one.left, other.left)
    down = min(one.bottom, other.bottom) - max(one.top, other.top)
    smaller = min((line.right - line.left) * line.height for line in (one, other))
    return across > 0 and down > 0 and across * down > 0.3 * smaller


def _detect_lines(picture: Image.Image, zoom: float) -> list[TextLine]:
    """Return the lines read at a scale, unordered, with positions in the original image."""
    size = (max(1, round(picture.width * zoom)), max(1, round(picture.height * zoom)))
    scaled = picture if zoom == 1 else picture.resize(size, Image.Resampling.LANCZOS)
    # The package expects blue first.
    pixels = np.ascontiguousarray(np.asarray(scaled)[:, :, ::-1])
    engine = _load_engine()
    try:
        found = engine(pixels)
    except Exception as error:
        raise InternalError(f"Reading the text in an image failed: {error}") from error
    if found.boxes is None or not found.txts:
        return []
    lines = []
    for text, score, box in zip(found.txts, found.scores, found.boxes, strict=True):
        if text.strip():
            corners: NDArray[np.float64] = box / zoom
            left, top, right, bottom = (round(float(edge)) for edge in (*corners.min(axis=0), *corners.max(axis=0)))
            lines.append(
                TextLine(
                    text=text.strip(),
                    confidence=min(1.0, max(0.0, float(score))),
                    left=left,
                    top=top,
                    right=right,
                    bottom=bottom,
                )
            )
    return lines
