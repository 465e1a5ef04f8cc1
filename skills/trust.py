"""List of trusted folders: only there a project's skills are read and their code is run."""

from __future__ import annotations

import json
import os
from pathlib import Path

from gems.errors import ConfigurationError, StorageError

_FILE = "trusted.json"


def trusted_folders(home: Path) -> frozenset[Path]:
    """Return the trusted folders of GEMS_HOME; `ConfigurationError` if their list is unreadable. Blocking."""
    path = home / _FILE
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["folders"]
        # Text that cannot be encoded names no folder and could not be written again.
        return frozenset(Path(folder.encode().decode()) for folder in listed)
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigurationError(
            f"{path} cannot be read: {type(error).__name__}.",
            hint="Delete it and trust your folders again with `gems skills trust DIR`.",
        ) from None


def is_trusted(path: Path, folders: frozenset[Path]) -> bool:
    """Return whether `path` is one of the folders or below one."""
    resolved = path.resolve()
    return any(resolved.is_relative_to(folder) for folder in folders)


def trust(home: Path, folder: Path) -> Path:
    """Trust a folder and everything below it; return it with links resolved. Blocking."""
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is not a folder.", hint="Name the folder of your project.")
    resolved = folder.resolve()
    _write_folders(home, trusted_folders(home) | {resolved})
    return resolved


def distrust(home: Path, folder: Path) -> Path:
    """Remove a folder from the trusted ones; `ConfigurationError` if it is not listed itself. Blocking."""
    resolved, known = folder.resolve(), trusted_folders(home)
    if resolved not in known:
        above = [str(other) for other in known if resolved.is_relative_to(other)]
        listing = "`gems skills trust --list` shows which are."
        hint = f"It is trusted through {above[0]}." if above else listing
        raise ConfigurationError(f"{resolved} is not among the trusted folders.", hint=hint)
    _write_folders(home, known - {resolved})
    return resolved


def _write_folders(home: Path, folders: frozenset[Path]) -> None:
    text = json.dumps({"folders": sorted(map(str, folders))}, indent=2, ensure_ascii=False)
    path = home / _FILE
    try:
        home.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(f".{os.getpid()}.tmp")
        scratch.write_text(f"{text}\n", encoding="utf-8")
        scratch.replace(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}.") from None
