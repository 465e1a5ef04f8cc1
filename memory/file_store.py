"""Files in a folder wherever fsspec reaches: a path, `memory://`, `s3://` and the like.

Everything here blocks; call it in threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from gems.errors import ConfigurationError, GemsError, StorageError
from gems.memory.faults import storage_error
from gems.memory.images import write_whole
from gems.observability.redaction import redact


class FileStore:
    """A folder on an fsspec URL.

    Args:
        url: A path, or a URL that fsspec knows.

    Attributes:
        label: For people, without secrets.

    Raises:
        ConfigurationError: nobody knows such a URL, or the package that does is not installed.
    """

    def __init__(self, url: str) -> None:
        self.label = redact(url)
        try:
            self._fs, root = fsspec.core.url_to_fs(str(Path(url).expanduser()) if "://" not in url else url)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(
                f"{self.label} cannot be opened: {redact(str(error))}.",
                hint="Name a folder, or the URL of one that fsspec knows, such as s3://bucket/folder.",
            ) from error
        self._root: str = root.rstrip("/") or root
        self.folder = Path(root) if "file" in _protocols(self._fs) else None
        """The folder where it is one of this machine; None elsewhere."""

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        with self._faults(name):
            # Others write too, so what was listed before says nothing.
            self._fs.invalidate_cache()
            return bool(self._fs.exists(self._path(name)))

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder of it, sorted; empty where there is no such folder."""
        with self._faults(folder):
            self._fs.invalidate_cache()
            try:
                found: Sequence[str] = self._fs.ls(self._path(folder), detail=False)
            except FileNotFoundError:
                return []
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found)

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            FileNotFoundError: there is none.
            StorageError: it cannot be read.
        """
        with self._faults(name):
            data: bytes = self._fs.cat_file(self._path(name))
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all.

        Raises:
            DiskFullError: no space is left.
            StorageError: it cannot be written.
        """
        with self._faults(name):
            if self.folder is not None:
                write_whole(self.folder / name, data)
            else:
                self._fs.pipe_file(self._path(name), data)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    @contextmanager
    def _faults(self, name: str) -> Iterator[None]:
        """What goes wrong, in our words; libraries of stores raise whatever they like."""
        try:
            yield
        except (GemsError, FileNotFoundError):
            raise
        except OSError as error:
            raise storage_error(error, Path(self.label) / name) from error
        except Exception as error:
            said = redact(f"{type(error).__name__}: {error}")
            raise StorageError(f"{self.label}/{name} could not be used: {said}.") from error


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
