"""Files in a folder on any fsspec URL: a path, `memory://`, `s3://` and the like. All calls block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import fsspec

from gems.errors import ConfigurationError, GemsError, StorageError
from gems.files.shared import write_atomically
from gems.memory.sqlite import storage_error
from gems.observability.redaction import redact

_LOCAL = ("file", "local", "memory")
_REMOTE = (
    *("s3", "s3a", "gs", "gcs", "az", "abfs", "adl", "oci", "oss", "tos", "hf"),
    *("sftp", "ssh", "smb", "ftp", "hdfs", "webhdfs", "webdav"),
)
PROTOCOLS = frozenset((*_LOCAL, *_REMOTE))
"""Of fsspec's protocols those that store files. Others would run templates, packages of archives, or commands."""


class FileStore:
    """A folder at a path or an fsspec URL; `label` is the URL without secrets, for messages.

    Raises ConfigurationError for a URL with another protocol than `PROTOCOLS` or several, or if the package for it is
    not installed.
    """

    def __init__(self, url: str) -> None:
        self.label = redact(url)
        # A chain such as `reference::s3://...` has a protocol at each link.
        protocol = url.partition("://")[0] if "://" in url or "::" in url else "file"
        if protocol.lower() not in PROTOCOLS:
            raise ConfigurationError(
                f"{self.label} cannot be used: its protocol is not among those that store files.",
                hint=f"Use a folder, or a URL with {', '.join(sorted(PROTOCOLS))}.",
            )
        try:
            self._fs, root = fsspec.core.url_to_fs(str(Path(url).expanduser()) if "://" not in url else url)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(
                f"{self.label} cannot be opened: {redact(str(error))}.",
                hint="Use a folder, or the URL of one that fsspec supports, such as s3://bucket/folder.",
            ) from error
        self._root: str = root.rstrip("/") or root
        protocols = self._fs.protocol
        self.folder = Path(root) if "file" in ((protocols,) if isinstance(protocols, str) else protocols) else None
        """The local folder; None for remote ones."""

    def exists(self, name: str) -> bool:
        """Return whether there is a file of this name."""
        with self._translate_errors(name):
            # Others write too, so cached listings are stale.
            self._fs.invalidate_cache()
            return bool(self._fs.exists(self._path(name)))

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of the files in a subfolder; empty if it does not exist."""
        with self._translate_errors(folder):
            self._fs.invalidate_cache()
            try:
                found: Sequence[str] = self._fs.ls(self._path(folder), detail=False)
            except FileNotFoundError:
                return []
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found)

    def read(self, name: str) -> bytes:
        """Return the bytes of a file; FileNotFoundError if there is none."""
        with self._translate_errors(name):
            data: bytes = self._fs.cat_file(self._path(name))
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically."""
        with self._translate_errors(name):
            if self.folder is not None:
                write_atomically(self.folder / name, data)
            else:
                self._fs.pipe_file(self._path(name), data)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    @contextmanager
    def _translate_errors(self, name: str) -> Iterator[None]:
        """Translate errors; the libraries behind fsspec raise any exception type."""
        try:
            yield
        except (GemsError, FileNotFoundError):
            raise
        except OSError as error:
            raise storage_error(error, Path(self.label) / name) from error
        except Exception as error:
            message = redact(f"{type(error).__name__}: {error}")
            raise StorageError(f"{self.label}/{name} could not be used: {message}.") from error


def remove_file(path: Path) -> bool:
    """Delete a file; return whether there was one."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise storage_error(error, path) from error
    return True
