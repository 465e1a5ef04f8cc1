"""Write a run's best image where the user wants it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from gems.errors import OptionError
from gems.memory.faults import storage_error
from gems.memory.images import ImageStore, write_whole
from gems.provenance import with_provenance
from gems.results import RunResult


def check_target(out: str | Path | None) -> None:
    """Rule out a target that cannot be written before anything is paid for. Blocking.

    Raises:
        OptionError: `out` has an ending other than `.png`, or its folder cannot be written.
    """
    if out is None:
        return
    target = Path(out)
    if not target.is_dir() and target.suffix.lower() not in ("", ".png"):
        raise OptionError(f"{target} does not end in .png.", hint="Images are written as PNG.")
    folder = target if target.is_dir() or not target.suffix else target.parent
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise OptionError(f"{folder} cannot be written.", hint="Choose another place with --out.")


async def save_result(result: RunResult, images: ImageStore, out: str | Path, *, metadata: bool) -> RunResult:
    """The result with its picture, written to `out`.

    A file that cannot be written costs nobody the picture: it is in the store and in the result, and a
    warning says what went wrong.
    """
    if result.image_id is None:
        return result
    data = await images.load(result.image_id)
    target = _target(Path(out), result.run_id)
    try:
        if metadata:
            data = await asyncio.to_thread(with_provenance, data, result)
        await asyncio.to_thread(write_whole, target, data)
    except OSError as error:
        stored = images.path(result.image_id)
        kept = stored if result.image_id not in images.unsaved else None
        warning = f"The result could not be written: {storage_error(error, target)}"
        return result.model_copy(update={"warnings": [*result.warnings, warning]}).with_image(data, kept)
    return result.with_image(data, target)


def write_page(page: str, target: Path) -> Path:
    """Write a page to a file, whole or not at all. Blocking.

    Raises:
        OptionError: `target` is a folder.
        StorageError: it cannot be written.
    """
    if target.is_dir():
        raise OptionError(f"{target} is a folder.", hint="Name a file, for example report.html.")
    try:
        write_whole(target, page.encode())
    except OSError as error:
        raise storage_error(error, target) from error
    return target.absolute()


def picture_path(saved: str | None, stored: Path) -> Path:
    """Where a finished run's picture is now: the file it was saved to, or the store's. Blocking."""
    return Path(saved) if saved and Path(saved).exists() else stored


def _target(out: Path, run_id: str) -> Path:
    is_file = out.suffix.lower() == ".png" and not out.is_dir()
    return (out if is_file else out / f"{run_id}.png").absolute()
