"""Delete files of a home that are not referenced. All functions block: call them in a thread."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from gems.memory.images import ImageStore
from gems.memory.sqlite import storage_error

_IMAGE_FILE = re.compile(r"([0-9a-f]{64})\.png")
_DELETING = ".going-"
NEW = ".new-"
"""Prefix of the names of files that are being written."""


def stored_images(images: ImageStore, before: float) -> dict[str, int]:
    """Return the ids and sizes in bytes of the stored images that were not written since `before`."""
    found = {}
    for path, status in _files(images.folder):
        named = _IMAGE_FILE.fullmatch(path.name)
        if named and status.st_mtime < before:
            found[named[1]] = status.st_size
    return found


def image_sizes(images: ImageStore, names: Collection[str]) -> dict[str, int]:
    """Return the sizes in bytes of those of the images that are stored."""
    paths = {image: images.path(image) for image in names}
    return {image: path.stat().st_size for image, path in paths.items() if path.exists()}


def leftovers(folders: Collection[Path], before: float) -> dict[Path, int]:
    """Return files that a killed process left unfinished before `before`, with their sizes in bytes."""
    return {
        path: status.st_size
        for folder in folders
        for path, status in _files(folder)
        if path.name.startswith((NEW, _DELETING)) and status.st_mtime < before
    }


def remove_image(images: ImageStore, image: str, before: float) -> bool:
    """Delete an image unless it was written again since `before`; return whether it was deleted.

    The file is moved aside first and its time checked then: a process that writes it meanwhile either is
    noticed, or finds no file and writes it again.
    """
    path = images.path(image)
    aside = path.with_name(f"{_DELETING}{path.name}")
    try:
        path.replace(aside)
        if aside.stat().st_mtime >= before:
            aside.replace(path)
            return False
        aside.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise storage_error(error, path) from error
    return True


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent) / name
            try:
                yield path, path.stat()
            except FileNotFoundError:
                # Another process deleted it or finished writing it.
                continue
