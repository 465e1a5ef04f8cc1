"""Clear away files of a home that nobody refers to. Everything here blocks: call it in a thread."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from gems.errors import RunBusyError
from gems.memory.faults import storage_error
from gems.memory.images import ImageStore
from gems.memory.locks import run_lock

_IMAGE = re.compile(r"([0-9a-f]{64})\.png")
_GOING = ".going-"
NEW = ".new-"
"""How the names of files begin that are being written."""


def stored_images(images: ImageStore, before: float) -> dict[str, int]:
    """The ids of the stored images that nobody has put since `before`, with their sizes in bytes."""
    found = {}
    for path, status in _files(images.folder):
        named = _IMAGE.fullmatch(path.name)
        if named and status.st_mtime < before:
            found[named[1]] = status.st_size
    return found


def image_sizes(images: ImageStore, wanted: Collection[str]) -> dict[str, int]:
    """The sizes in bytes of those images among `wanted` that are stored."""
    paths = {image: images.path(image) for image in wanted}
    return {image: path.stat().st_size for image, path in paths.items() if path.exists()}


def leftovers(folders: Collection[Path], before: float) -> dict[Path, int]:
    """Files that a killed process was about to write before `before`, with their sizes in bytes."""
    return {
        path: status.st_size
        for folder in folders
        for path, status in _files(folder)
        if path.name.startswith((NEW, _GOING)) and status.st_mtime < before
    }


def remove_image(images: ImageStore, image: str, before: float) -> bool:
    """Remove an image unless somebody has put it again since `before`; whether it is gone.

    It is moved aside first and looked at then: whoever puts it meanwhile either was seen, or finds no file
    and writes it anew.
    """
    path = images.path(image)
    aside = path.with_name(f"{_GOING}{path.name}")
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


def remove_file(path: Path) -> bool:
    """Remove a file; whether there was one."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise storage_error(error, path) from error
    return True


def idle_locks(folder: Path, listed: Collection[str]) -> list[str]:
    """Runs that are not listed, are not being worked on, and have left a lock file behind."""
    names = [path.stem for path in folder.glob("*.lock")] if folder.is_dir() else []
    return [name for name in names if name not in listed and not is_busy(folder, name)]


def remove_lock(folder: Path, run: str) -> bool:
    """Remove the lock file of a run that is gone, unless somebody holds it; whether it is gone."""
    try:
        with run_lock(folder, run):
            return remove_lock_held(folder, run)
    except RunBusyError:
        return False


def remove_lock_held(folder: Path, run: str) -> bool:
    """Remove the lock file of a run that is gone, by whoever holds it, so that it is taken from nobody."""
    # Windows removes no open file, but filelock does so on letting go.
    return os.name == "nt" or remove_file(folder / f"{run}.lock")


def is_busy(folder: Path, run: str) -> bool:
    """Whether somebody works on the run. Unlike `is_locked` it makes no lock file where there is none."""
    if not (folder / f"{run}.lock").exists():
        return False
    try:
        with run_lock(folder, run):
            return False
    except RunBusyError:
        return True


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent) / name
            try:
                yield path, path.stat()
            except FileNotFoundError:
                # Another process cleared it away or finished writing it.
                continue
