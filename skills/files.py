"""Read files within a skill's folder and nowhere else."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

from gems.errors import SkillError

MAX_BYTES = 1_000_000
"""Larger files are rejected."""


def read_text(folder: Path, relative: str) -> str:
    """Return the text of a file in a skill's folder, with plain line feeds and without a byte order mark.

    Blocking. Raises `SkillError` if the path leaves the folder, or for a missing, large or non-UTF-8 file.
    """
    raw = read_bytes(folder, relative)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise SkillError(f"{relative}, line {line}, is not UTF-8.", hint="Save it as UTF-8.") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_bytes(folder: Path, relative: str) -> bytes:
    """Return the bytes of a file in a skill's folder; raises as `read_text`."""
    path = within(folder, relative)
    try:
        with open(path, "rb", opener=_open_nonblocking) as file:
            if not _is_regular_file(file.fileno()):
                raise SkillError(f"{relative} is not a regular file.")
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SkillError(f"There is no file {relative} in {folder}.") from None
    except OSError as error:
        raise SkillError(f"{relative} in {folder} cannot be read: {error.strerror or error}.") from None
    if len(raw) > MAX_BYTES:
        raise SkillError(f"{relative} in {folder} has more than {MAX_BYTES:,} bytes.")
    return raw


def within(folder: Path, relative: str) -> Path:
    """Return the path of a file in a skill's folder; raise `SkillError` if `..` or a link leaves it."""
    parts = PurePosixPath(relative.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or Path(relative).drive or "\0" in relative:
        raise SkillError(f"{relative[:200]!r} leads out of the skill's folder.")
    path = folder / parts
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except UnicodeEncodeError:
        raise SkillError(f"{relative[:200]!r} is not a valid file name.") from None
    except (OSError, RuntimeError):  # circular links
        inside = False
    if not inside:
        raise SkillError(f"{relative} in {folder} is a link that leads out of the skill's folder.")
    return path


def _open_nonblocking(path: str, flags: int) -> int:
    """Open without blocking: opening a pipe would wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _is_regular_file(descriptor: int) -> bool:
    """Return whether it is a regular file: a pipe or a device may never end."""
    return stat.S_ISREG(os.fstat(descriptor).st_mode)
