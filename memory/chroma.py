"""Connections to Chroma, in a folder or on a server. All calls block: make them on the store's thread.

Chroma's client for a folder keeps an index in memory and does not support several processes. So each access
holds a lock file, writers increment an epoch number beside the folder, and a process that finds a different
epoch reopens the folder before reading. It also keeps every collection's index in memory once it was used,
with its open files, so the folder is reopened when these are too many.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, cast
from urllib.parse import urlsplit

from filelock import FileLock

from gems.errors import ConfigurationError, CorruptStoreError, GemsError, MemoryUnavailableError, StorageError
from gems.memory.sqlite import storage_error

T = TypeVar("T")
MOST_INDEXES = 32
"""Indexes of a folder that may be open: each is about 3 MB of memory and four open files."""
_OPEN_LOCK = threading.Lock()
_DAMAGED = ("not a database", "malformed", "corrupt", "disk image", "hnsw", "compaction", "no such table")
_REBUILD = "Run `gems memory rebuild` to rebuild it from the runs' trajectories."


class Connection(Protocol):
    """Access to a Chroma client; `where` is its folder or address, for messages."""

    @property
    def where(self) -> str: ...

    def is_empty(self) -> bool:
        """Return whether the store is certainly empty, without opening anything."""

    def use(self, action: Callable[[Any], T], *, writing: bool, indexes: Collection[str] = ()) -> T:
        """Call `action` with the client and return its result; any failure is a StorageError.

        `indexes` are the names of the collections it uses: Chroma opens their indexes, even to count items.
        """

    def clear(self) -> str:
        """Start an empty store; return the path of the old one, or "" if it was deleted."""

    def close(self) -> None:
        """Close the connection."""


def connect(where: str, folder: Path) -> Connection:
    """Return a connection, not opened yet; ConfigurationError if `where` is neither empty nor an address."""
    return ServerConnection(where) if where else LocalConnection.shared(folder)


class LocalConnection:
    """Connection to a folder, which the first write creates; one per folder and process: use `shared`."""

    _all: ClassVar[dict[Path, LocalConnection]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, folder: Path) -> None:
        self.where = str(folder)
        self._folder = folder
        self.users = 0
        self._lock = threading.RLock()
        self._file_lock = FileLock(folder.with_name(f"{folder.name}.lock"), thread_local=False)
        self._epoch_file = folder.with_name(f"{folder.name}.epoch")
        self._epoch = ""
        self._client: Any = None
        self._indexes: set[str] = set()

    @classmethod
    def shared(cls, folder: Path) -> LocalConnection:
        """Return the process's connection to a folder: two would not see each other's writes."""
        with cls._guard:
            found = cls._all.setdefault(folder.absolute(), cls(folder.absolute()))
            found.users += 1
            return found

    def is_empty(self) -> bool:
        return not self._folder.exists()

    def use(self, action: Callable[[Any], T], *, writing: bool, indexes: Collection[str] = ()) -> T:
        try:
            with self._lock:
                self._folder.parent.mkdir(parents=True, exist_ok=True)
                with self._file_lock:
                    client = self._current(indexes)
                    if writing:
                        # Incremented first: if this process dies in the middle, others reopen the folder.
                        self._increment_epoch()
                    return action(client)
        except GemsError:
            raise
        except OSError as error:
            raise storage_error(error, self._folder) from error
        except BaseException as error:
            # Chroma's Rust code panics on damaged files, which is no Exception.
            panicked = type(error).__name__ == "PanicException"
            if not isinstance(error, Exception) and not panicked:
                raise
            message = f"{type(error).__name__}: {error}"[:300]
            if panicked:
                self._client = None
            if panicked or any(mark in message.lower() for mark in _DAMAGED):
                raise self._damaged_error(message) from (None if panicked else error)
            raise StorageError(f"The store of experiences {self._folder} could not be used ({message}).") from error

    def clear(self) -> str:
        """Move the old folder aside and return its new path."""
        if not self._folder.exists():
            return ""
        aside = self._folder.with_name(f"{self._folder.name}.old-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}")
        try:
            with self._lock, self._file_lock:
                self._close_client()
                self._folder.rename(aside)
                self._epoch = self._read_epoch()
                self._increment_epoch()
        except OSError as error:
            raise storage_error(error, self._folder) from error
        return str(aside)

    def close(self) -> None:
        """Close the client once nobody in this process uses the folder."""
        with self._guard:
            self.users -= 1
            if self.users:
                return
            self._all.pop(self._folder, None)
        with self._lock:
            self._close_client()

    def _current(self, indexes: Collection[str]) -> Any:
        epoch = self._read_epoch()
        has_changed = epoch != self._epoch or not self._folder.exists()
        # Chroma's own limit of indexes is all files that the process may open, and fails for unsaved ones.
        if has_changed or len(self._indexes.union(indexes)) > MOST_INDEXES:
            self._close_client()
        self._indexes.update(indexes)
        if self._client is None:
            import chromadb  # noqa: PLC0415 - heavy

            try:
                with _discard_on_failure():
                    settings = _without_telemetry(chromadb)
                    self._client = chromadb.PersistentClient(str(self._folder), settings=settings)
            except ValueError as error:
                # For a file that is not a database, Chroma only says that it knows no tenant.
                raise self._damaged_error(f"{type(error).__name__}: {error}"[:200]) from error
            self._epoch = epoch
        return self._client

    def _read_epoch(self) -> str:
        return self._epoch_file.read_text() if self._epoch_file.exists() else ""

    def _increment_epoch(self) -> None:
        epoch = str(int(self._epoch or 0) + 1)
        self._epoch_file.write_text(epoch)
        self._epoch = epoch

    def _close_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        self._indexes.clear()

    def _damaged_error(self, message: str) -> CorruptStoreError:
        return CorruptStoreError(f"The store of experiences {self._folder} is damaged ({message}).", hint=_REBUILD)


class ServerConnection:
    """Connection to a Chroma server at `http://host:port` or `https://host:port`."""

    def __init__(self, address: str) -> None:
        invalid = ConfigurationError(
            "Invalid GEMS_EXPERIENCE: it is not an address.", hint="Use http://host:8000, off, or leave it empty."
        )
        try:
            parts = urlsplit(address)
            port = parts.port
        except ValueError:
            raise invalid from None
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise invalid
        self._secure, self._host = parts.scheme == "https", parts.hostname
        self._port = port or (443 if self._secure else 8000)
        self.where = f"{'https' if self._secure else 'http'}://{self._host}:{self._port}"
        self._systems: set[str] = set()
        self._client: Any = None

    def is_empty(self) -> bool:
        return False  # Only the server knows.

    def use(
        self,
        action: Callable[[Any], T],
        *,
        writing: bool,  # noqa: ARG002 - the server locks by itself
        indexes: Collection[str] = (),  # noqa: ARG002 - and opens its indexes
    ) -> T:
        try:
            if self._client is None:
                import chromadb  # noqa: PLC0415 - heavy

                settings = _without_telemetry(chromadb)
                with _discard_on_failure() as self._systems:
                    self._client = chromadb.HttpClient(
                        host=self._host, port=self._port, ssl=self._secure, settings=settings
                    )
            return action(self._client)
        except GemsError:
            raise
        except Exception as error:
            self.close()
            message = f"{type(error).__name__}: {error}"[:200]
            raise MemoryUnavailableError(f"The Chroma server {self.where} failed ({message}).") from error

    def clear(self) -> str:
        """Delete only the collections of GEMS."""

        def delete_collections(client: Any) -> None:
            for collection in client.list_collections():
                if collection.name.startswith("gems-"):
                    client.delete_collection(collection.name)

        self.use(delete_collections, writing=True)
        return ""

    def close(self) -> None:
        if self._client is not None:
            # Chroma opens several clients for one server, and does not close their connections.
            for identifier in self._systems:
                _discard(identifier)
            self._client = None


@contextmanager
def _discard_on_failure() -> Iterator[set[str]]:
    """Yield a set for the identifiers of the opened systems; if the block fails, discard these.

    Chroma would keep parts of them, sockets included.
    """
    from chromadb.api.shared_system_client import SharedSystemClient as Shared  # noqa: PLC0415

    opened: set[str] = set()
    with _OPEN_LOCK:
        before = set(Shared._identifier_to_system)  # noqa: SLF001
        try:
            yield opened
        except BaseException:
            for identifier in set(Shared._identifier_to_system) - before:  # noqa: SLF001
                _discard(identifier)
            raise
        opened |= set(Shared._identifier_to_system) - before  # noqa: SLF001


def _discard(identifier: str) -> None:
    from chromadb.api import ServerAPI  # noqa: PLC0415
    from chromadb.api.shared_system_client import SharedSystemClient as Shared  # noqa: PLC0415

    system = Shared._identifier_to_system.pop(identifier, None)  # noqa: SLF001
    Shared._identifier_to_refcount.pop(identifier, None)  # noqa: SLF001
    server = system.instance(cast("Any", ServerAPI)) if system is not None else None
    if session := getattr(server, "_session", None):
        session.close()


def _without_telemetry(chromadb: Any) -> Any:
    logging.getLogger("chromadb.telemetry").setLevel(logging.CRITICAL)
    return chromadb.Settings(anonymized_telemetry=False)
