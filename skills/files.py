"""Reading a skill's files, and nothing but a skill's files."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

from gems.errors import SkillError

MAX_BYTES = 1_000_000
"""A file that is larger is refused."""


def read_text(folder: Path, relative: str) -> str:
    """The text of a file within a skill's folder, with plain line feeds and without a byte order mark.

    Blocking.

    Args:
        folder: The skill's folder.
        relative: Path within it, with slashes.

    Raises:
        SkillError: the path leads out of the folder; there is no such file; it is too large or no UTF-8.
    """
    raw = read_bytes(folder, relative)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise SkillError(f"{relative}, line {line}, is no UTF-8.", hint="Save it as UTF-8.") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_bytes(folder: Path, relative: str) -> bytes:
    """The bytes of a file within a skill's folder; see `read_text`."""
    path = within(folder, relative)
    try:
        with open(path, "rb", opener=_open_nonblocking) as file:
            if not _is_regular_file(file.fileno()):
                raise SkillError(f"{relative} is no plain file.")
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SkillError(f"There is no file {relative} in {folder}.") from None
    except OSError as error:
        raise SkillError(f"{relative} in {folder} cannot be read: {error.strerror or error}.") from None
    if len(raw) > MAX_BYTES:
        raise SkillError(f"{relative} in {folder} has more than {MAX_BYTES:,} bytes.")
    return raw


def within(folder: Path, relative: str) -> Path:
    """The path of a file within a skill's folder, which it does not leave by `..` or by a link.

    Raises:
        SkillError: it does.
    """
    parts = PurePosixPath(relative.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or Path(relative).drive or "\0" in relative:
        raise SkillError(f"{relative[:200]!r} leads out of the skill's folder.")
    path = folder / parts
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except UnicodeEncodeError:
        raise SkillError(f"{relative[:200]!r} is the name of no file.") from None
    except (OSError, RuntimeError):  # links in a circle
        inside = False
    if not inside:
        raise SkillError(f"{relative} in {folder} is a link that leads out of the skill's folder.")
    return path


def _open_nonblocking(path: str, flags: int) -> int:
    """Opening a pipe would otherwise wait for somebody to write to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _is_regular_file(descriptor: int) -> bool:
    """Whether it is a file: a pipe or a device may never end."""
    return stat.S_ISREG(os.fstat(descriptor).st_mode)
