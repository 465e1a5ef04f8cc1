"""Write a run's best image where the user wants it, and find it again."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from gems.errors import ImageMissingError, OptionError
from gems.memory.faults import reading, storage_error
from gems.memory.images import ImageStore, write_atomically
from gems.provenance import with_provenance
from gems.results import RunResult


def check_target(out: str | Path | None) -> None:
    """Rule out a target that cannot be written before anything is paid for. Blocking.

    Raises:
        OptionError: `out` is empty, has an ending other than `.png`, or its folder cannot be written.
    """
    if out is None:
        return
    if out == "":
        raise OptionError("The place for the image is empty.", hint="Name a .png file or a folder.")
    target = Path(out)
    _check_path(target)
    if not target.is_dir() and target.suffix.lower() not in ("", ".png"):
        raise OptionError(f"{target} does not end in .png.", hint="Images are written as PNG.")
    folder = target if target.is_dir() or not target.suffix else target.parent
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise OptionError(f"{folder} cannot be written.", hint="Choose another place with --out.")


def _check_path(target: Path) -> None:
    """Rule out a name that the system does not take, or a place that it does not let us look at."""
    try:
        target.stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        shown = str(target) if len(str(target)) <= 200 else f"{str(target)[:199]}…"
        raise OptionError(f"{shown!r} cannot be written: {said}.", hint="Choose another --out.") from error


async def save_result(result: RunResult, images: ImageStore, out: str | Path, *, metadata: bool) -> RunResult:
    """The result with its picture, written to `out`.

    A file that cannot be written costs nobody the picture: it is in the store, in the system's folder for
    temporary files, or at least in the result, and a warning says what went wrong.
    """
    if result.image_id is None:
        return result
    data = await images.load(result.image_id)
    target = _target(Path(out), result.run_id)
    try:
        if metadata:
            data = await asyncio.to_thread(with_provenance, data, result)
        await asyncio.to_thread(write_atomically, target, data)
    except OSError as error:
        kept = images.path(result.image_id) if result.image_id not in images.unsaved else None
        place = kept or await asyncio.to_thread(_written_elsewhere, f"gems-{result.run_id}.png", data)
        where = f"It is {place}." if place else "It is held in memory only and ends with this process."
        warning = f"The result could not be written: {storage_error(error, target)} {where}"
        return result.model_copy(update={"warnings": [*result.warnings, warning]}).with_image(
            data, place, images.at_hand
        )
    return result.with_image(data, target, images.at_hand)


def _written_elsewhere(name: str, data: bytes) -> Path | None:
    """The file among the system's temporary ones that holds `data`; None where there is no room either."""
    try:
        place = Path(tempfile.gettempdir()) / name
        write_atomically(place, data)
    except OSError:
        return None
    return place


async def with_picture(result: RunResult, images: ImageStore, saved: str | None) -> RunResult:
    """The result of a run that was carried out earlier, with its picture.

    Args:
        result: With an image.
        images: Where the picture is stored.
        saved: The file it was saved to, which stands in where the stored one is gone.

    Raises:
        StorageError: the picture is in neither place.
    """
    stored = images.path(result.image_id or "")
    path = await asyncio.to_thread(picture_path, saved, stored)
    try:
        return result.with_image(await images.load(result.image_id or ""), path, images.at_hand)
    except ImageMissingError as missing:
        if path == stored:
            raise
        with reading(path):
            data = await asyncio.to_thread(path.read_bytes)
        warning = f"{missing.message} This is the copy that was saved to {path}."
    return result.model_copy(update={"warnings": [*result.warnings, warning]}).with_image(
        data, path, images.at_hand
    )


def write_page(page: str, target: Path) -> Path:
    """Write a page to a file, whole or not at all. Blocking.

    Raises:
        OptionError: `target` is a folder.
        StorageError: it cannot be written.
    """
    if target.is_dir():
        raise OptionError(f"{target} is a folder.", hint="Name a file, for example report.html.")
    try:
        write_atomically(target, page.encode())
    except OSError as error:
        raise storage_error(error, target) from error
    return target.absolute()


def picture_path(saved: str | None, stored: Path) -> Path:
    """Where a finished run's picture is now: the file it was saved to, or the store's. Blocking."""
    return Path(saved) if saved and Path(saved).exists() else stored


def _target(out: Path, run_id: str) -> Path:
    is_file = out.suffix.lower() == ".png" and not out.is_dir()
    return (out if is_file else out / f"{run_id}.png").absolute()
