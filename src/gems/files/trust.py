"""What the user trusts: folders of projects and skills, and the content that they had when it was seen.

Trust is for content. `gems skills trust DIR` records a digest of each file that could act: all files of the skills
below the folder, and its `.env`. What is changed or added later is not trusted until the user has seen it, too.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gems.errors import ConfigurationError, StorageError
from gems.files.shared import changing, write_atomically

ENV_FILE = ".env"
_FILE = "trusted.json"
_SEEN = "trusted"
"""Folder of copies of what was seen, by digest, so that a change can be shown."""
_SKILL_FILES = ("SKILL.md", "skill.md")
_UNSEEN_FOLDERS = frozenset({".git", "node_modules", ".venv", "__pycache__"})
"""Not searched for skills; a skill below one is not trusted."""
_MOST_FILES = 2000
_MOST_SHOWN_BYTES = 200_000

Files = Mapping[str, str]
"""SHA-256 by path relative to a folder."""


@dataclass(frozen=True, slots=True)
class Change:
    """A file that differs from what was trusted; `lines` are a unified diff, empty if it is no text."""

    path: Path
    kind: Literal["new", "changed", "removed"]
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trust:
    """The trusted folders, and the digests of the files that were seen in folders below them."""

    folders: frozenset[Path] = frozenset()
    seen: Mapping[Path, Files] = field(default_factory=dict)

    def covers(self, path: Path) -> bool:
        """Return whether a path is a trusted folder or below one, whatever it contains."""
        return is_trusted(path, self.folders)

    def seen_code(self, folder: Path, name: str) -> str | None:
        """Return the digest of a file in a skill's folder if all its files are those that were seen. Blocking."""
        folder = folder.resolve()
        known = self.seen.get(folder) if self.covers(folder) else None
        if known is None:
            return None
        # The folder of a project may be that of a skill, too.
        wanted = {path: digest for path, digest in known.items() if path != ENV_FILE}
        found = {path: digest for path, digest in files_of(folder).items() if path != ENV_FILE}
        return known.get(name) if wanted == found else None

    def has_seen_env(self, folder: Path) -> bool:
        """Return whether the `.env` of a folder is the one that was trusted. Blocking."""
        folder = folder.resolve()
        known = self.seen.get(folder, {}).get(ENV_FILE) if self.covers(folder) else None
        return known is not None and known == _digest_file(folder / ENV_FILE)


def read_trust(home: Path) -> Trust:
    """Return what is trusted in GEMS_HOME; `ConfigurationError` if the list is unreadable. Blocking."""
    path = home / _FILE
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        # Text that cannot be encoded names no folder and could not be written again.
        folders = frozenset(Path(folder.encode().decode()) for folder in listed["folders"])
        seen = {
            Path(folder.encode().decode()): {str(name): str(digest) for name, digest in files.items()}
            for folder, files in listed.get("seen", {}).items()
        }
    except (FileNotFoundError, NotADirectoryError):
        return Trust()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigurationError(
            f"{path} cannot be read: {type(error).__name__}.",
            hint="Delete it and trust your folders again with `gems skills trust DIR`.",
        ) from None
    return Trust(folders, seen)


def trusted_folders(home: Path) -> frozenset[Path]:
    """Return the trusted folders of GEMS_HOME; raises as `read_trust`. Blocking."""
    return read_trust(home).folders


def is_trusted(path: Path, folders: frozenset[Path]) -> bool:
    """Return whether `path` is one of the folders or below one."""
    resolved = path.resolve()
    return any(resolved.is_relative_to(folder) for folder in folders)


def trust(home: Path, folder: Path) -> Path:
    """Trust a folder with the content that it has now; return it with links resolved. Blocking."""
    resolved = _resolve(folder)
    found = look(resolved)
    with _changing(home):
        known = read_trust(home)
        kept = {place: files for place, files in known.seen.items() if not place.is_relative_to(resolved)}
        for place, files in found.items():
            for name, digest in files.items():
                _keep_copy(home, place / name, digest)
        _write(home, Trust(known.folders | {resolved}, kept | found))
    return resolved


def distrust(home: Path, folder: Path) -> Path:
    """Remove a folder from the trusted ones; `ConfigurationError` if it is not listed itself. Blocking."""
    resolved = folder.resolve()
    with _changing(home):
        known = read_trust(home)
        if resolved not in known.folders:
            above = [str(other) for other in known.folders if resolved.is_relative_to(other)]
            listing = "`gems skills trust --list` shows which are."
            hint = f"It is trusted through {above[0]}." if above else listing
            raise ConfigurationError(f"{resolved} is not among the trusted folders.", hint=hint)
        folders = known.folders - {resolved}
        kept = {place: files for place, files in known.seen.items() if is_trusted(place, folders)}
        _write(home, Trust(folders, kept))
    return resolved


def changes_since(home: Path, folder: Path) -> list[Change]:
    """Return what differs below a folder from what was trusted; all is new if nothing was. Blocking."""
    resolved = _resolve(folder)
    known = read_trust(home)
    before = _flatten({place: files for place, files in known.seen.items() if place.is_relative_to(resolved)})
    after = _flatten(look(resolved))
    changes = []
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        kind: Literal["new", "changed", "removed"] = "new" if old is None else "removed" if new is None else "changed"
        lines = _diff(_copy_path(home, old), path) if kind == "changed" and old is not None else ()
        changes.append(Change(path, kind, lines))
    return changes


def look(folder: Path) -> dict[Path, dict[str, str]]:
    """Return the digests of what could act below a folder: of each skill's files, and of its `.env`. Blocking."""
    found: dict[Path, dict[str, str]] = {}
    if (folder / ENV_FILE).is_file():
        found[folder] = {ENV_FILE: _digest_file(folder / ENV_FILE)}
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _UNSEEN_FOLDERS)
        if any(name in files for name in _SKILL_FILES) and _is_text(root):
            place = Path(root).resolve()
            found[place] = found.get(place, {}) | files_of(place)
            folders[:] = []
    return found


def files_of(folder: Path) -> dict[str, str]:
    """Return the digests of all files of a skill's folder, code that Python has compiled among them. Blocking."""
    found: dict[str, str] = {}
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != ".git")
        for name in sorted([*files, *(name for name in folders if os.path.islink(os.path.join(root, name)))]):
            path = Path(root, name)
            found[path.relative_to(folder).as_posix()] = _digest_file(path)
            if len(found) > _MOST_FILES:
                raise ConfigurationError(f"{folder} has more than {_MOST_FILES} files, which is too much for a skill.")
    return found


def _is_text(path: str) -> bool:
    """Return whether a path can be written down; a skill elsewhere is not trusted."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _digest_file(path: Path) -> str:
    """Return the SHA-256 of a file's content; another text for what is no readable file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return f"no file: {os.readlink(path) if path.is_symlink() else ''}"
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {error.errno}"


def _resolve(folder: Path) -> Path:
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is not a folder.", hint="Name the folder of your project.")
    return folder.resolve()


def _flatten(seen: Mapping[Path, Files]) -> dict[Path, str]:
    return {place / name: digest for place, files in seen.items() for name, digest in files.items()}


def _diff(before: Path, after: Path) -> tuple[str, ...]:
    old, new = _lines(before), _lines(after)
    if old is None or new is None:
        return ()
    return tuple(difflib.unified_diff(old, new, "trusted", "now", lineterm=""))


def _lines(path: Path) -> list[str] | None:
    """Return the lines of a text; None for other files and large ones."""
    try:
        data = path.read_bytes()
        return data.decode().splitlines() if len(data) <= _MOST_SHOWN_BYTES else None
    except (OSError, UnicodeDecodeError):
        return None


def _copy_path(home: Path, digest: str) -> Path:
    return home / _SEEN / digest


def _keep_copy(home: Path, path: Path, digest: str) -> None:
    """Keep a copy of a small text, which may hold secrets, for `changes_since`."""
    copy = _copy_path(home, digest)
    try:
        data = path.read_bytes()
        if len(data) <= _MOST_SHOWN_BYTES and hashlib.sha256(data).hexdigest() == digest and not copy.exists():
            write_atomically(copy, data, private=True)
    except OSError as error:
        raise StorageError(f"{path} cannot be copied to {copy}: {error.strerror or error}.") from None


@contextmanager
def _changing(home: Path) -> Iterator[None]:
    """Hold the lock of the list; StorageError if it cannot be written."""
    path = home / _FILE
    try:
        with changing(path):
            yield
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}.") from None


def _write(home: Path, known: Trust) -> None:
    seen = {str(place): dict(files) for place, files in sorted(known.seen.items())}
    listed = {"folders": sorted(map(str, known.folders)), "seen": seen}
    # Escaped, since names of files need not be valid text.
    text = json.dumps(listed, indent=2)
    write_atomically(home / _FILE, f"{text}\n".encode())
