"""The connection to Chroma, in a folder or on a server. Everything blocks: call it on the store's own thread.

Chroma's client for a folder keeps an index in memory and is not made for several processes. So each access
holds a lock file, writers raise a number beside the folder, and who finds a number that is not his own opens
the folder anew before he looks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, cast
from urllib.parse import urlsplit

from filelock import FileLock

from gems.errors import ConfigurationError, CorruptStoreError, GemsError, MemoryUnavailableError, StorageError
from gems.memory.faults import storage_error

T = TypeVar("T")
_OPENING = threading.Lock()
_DAMAGED = ("not a database", "malformed", "corrupt", "disk image", "hnsw", "compaction", "no such table")
_REBUILD = "`gems memory rebuild` makes it anew from the runs' trajectories."


class Connection(Protocol):
    """Access to a Chroma client."""

    @property
    def where(self) -> str:
        """The folder or the address, for messages."""
        ...

    def is_empty(self) -> bool:
        """Whether there is nothing for sure, known without opening anything."""
        ...

    def use(self, doing: Callable[[Any], T], *, writing: bool) -> T:
        """What `doing` makes of the client.

        Raises:
            StorageError: the store cannot be used.
        """
        ...

    def clear(self) -> str:
        """Begin anew with an empty store; where the old one is now, empty where it is gone.

        Raises:
            StorageError: the old one cannot be moved or removed.
        """
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def connect(where: str, folder: Path) -> Connection:
    """A connection, not opened yet.

    Args:
        where: `http://host:port` of a server; empty for the folder.
        folder: The local folder.

    Raises:
        ConfigurationError: `where` is no such address.
    """
    if not where:
        return LocalConnection.shared(folder)
    return ServerConnection(where)


class LocalConnection:
    """One per folder and process; use `shared`.

    Args:
        folder: Made with the first write.
    """

    _all: ClassVar[dict[Path, LocalConnection]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.users = 0
        self._lock = threading.RLock()
        self._file_lock = FileLock(folder.with_name(f"{folder.name}.lock"), thread_local=False)
        self._epoch_file = folder.with_name(f"{folder.name}.epoch")
        self._epoch = ""
        self._client: Any = None

    @classmethod
    def shared(cls, folder: Path) -> LocalConnection:
        """The process's connection to a folder: two would not see what the other writes."""
        with cls._guard:
            found = cls._all.setdefault(folder.absolute(), cls(folder.absolute()))
            found.users += 1
            return found

    @property
    def where(self) -> str:
        """The folder."""
        return str(self._folder)

    def is_empty(self) -> bool:
        """Whether the folder was never written to."""
        return not self._folder.exists()

    def use(self, doing: Callable[[Any], T], *, writing: bool) -> T:
        """See `Connection`."""
        try:
            with self._lock:
                self._folder.parent.mkdir(parents=True, exist_ok=True)
                with self._file_lock:
                    client = self._current()
                    if not writing:
                        return doing(client)
                    # Raised first: whoever dies in the middle has others open the folder anew.
                    self._raise_epoch()
                    return doing(client)
        except GemsError:
            raise
        except OSError as error:
            raise storage_error(error, self._folder) from error
        except Exception as error:
            raise self._fault(error) from error
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            # Chroma's Rust part dies of damaged files in a way that no `except Exception` catches.
            raise self._fault(error) from None

    def clear(self) -> str:
        """See `Connection`; the old folder is moved aside."""
        if not self._folder.exists():
            return ""
        aside = self._folder.with_name(f"{self._folder.name}.old-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}")
        try:
            with self._lock, self._file_lock:
                self._drop()
                self._folder.rename(aside)
                self._epoch = self._epoch_file.read_text() if self._epoch_file.exists() else ""
                self._raise_epoch()
        except OSError as error:
            raise storage_error(error, self._folder) from error
        return str(aside)

    def close(self) -> None:
        """Let go of the folder once nobody in this process uses it."""
        with self._guard:
            self.users -= 1
            if self.users:
                return
            self._all.pop(self._folder, None)
        with self._lock:
            self._drop()

    def _current(self) -> Any:
        epoch = self._epoch_file.read_text() if self._epoch_file.exists() else ""
        if self._client is not None and (epoch != self._epoch or not self._folder.exists()):
            self._drop()
        if self._client is None:
            try:
                self._client = _opened(self._folder)
            except ValueError as error:
                # Chroma says no more of a file that is no database than that it knows no tenant.
                raise self._damaged(f"{type(error).__name__}: {error}"[:200]) from error
            self._epoch = epoch
        return self._client

    def _raise_epoch(self) -> None:
        epoch = str(int(self._epoch or 0) + 1)
        self._epoch_file.write_text(epoch)
        self._epoch = epoch

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _fault(self, error: BaseException) -> StorageError:
        said = f"{type(error).__name__}: {error}"[:300]
        panicked = not isinstance(error, Exception)
        if panicked:
            self._client = None
        if panicked or any(mark in said.lower() for mark in _DAMAGED):
            return self._damaged(said)
        return StorageError(f"The store of experiences {self._folder} could not be used ({said}).")

    def _damaged(self, said: str) -> CorruptStoreError:
        return CorruptStoreError(
            f"The store of experiences {self._folder} is damaged ({said}).", hint=_REBUILD
        )


class ServerConnection:
    """A Chroma server.

    Args:
        address: `http://host:port` or `https://host:port`.

    Raises:
        ConfigurationError: it is no such address.
    """

    def __init__(self, address: str) -> None:
        self._secure, self._host, self._port = _located(address)
        self._systems: set[str] = set()
        self._client: Any = None

    @property
    def where(self) -> str:
        """The address."""
        return f"{'https' if self._secure else 'http'}://{self._host}:{self._port}"

    def is_empty(self) -> bool:
        """A server has to be asked."""
        return False

    def use(self, doing: Callable[[Any], T], *, writing: bool) -> T:  # noqa: ARG002 - the server sees to that
        """See `Connection`."""
        try:
            if self._client is None:
                self._client = self._opened()
            return doing(self._client)
        except GemsError:
            raise
        except Exception as error:
            self.close()
            said = f"{type(error).__name__}: {error}"[:200]
            raise MemoryUnavailableError(
                f"The Chroma server {self.where} does not do its part ({said})."
            ) from error

    def clear(self) -> str:
        """See `Connection`; only collections of ours are removed."""

        def emptied(client: Any) -> None:
            for collection in client.list_collections():
                if collection.name.startswith("gems-"):
                    client.delete_collection(collection.name)

        self.use(emptied, writing=True)
        return ""

    def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            # Chroma opens several clients for one server, and leaves their connections open on closing.
            for identifier in self._systems:
                _discard(identifier)
            self._client = None

    def _opened(self) -> Any:
        import chromadb  # noqa: PLC0415 - heavy

        with _whole() as self._systems:
            return chromadb.HttpClient(
                host=self._host, port=self._port, ssl=self._secure, settings=_quiet(chromadb)
            )


def _located(address: str) -> tuple[bool, str, int]:
    """Whether a server's connections are encrypted, its host, and its port."""
    wrong = ConfigurationError(
        "GEMS_EXPERIENCE is neither empty, `off` nor an address.", hint="For example http://host:8000."
    )
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise wrong
    secure = parts.scheme == "https"
    return secure, parts.hostname, port or (443 if secure else 8000)


def _opened(folder: Path) -> Any:
    import chromadb  # noqa: PLC0415 - heavy

    with _whole():
        return chromadb.PersistentClient(str(folder), settings=_quiet(chromadb))


@contextmanager
def _whole() -> Iterator[set[str]]:
    """What cannot be opened leaves nothing behind: Chroma keeps a part of it, sockets included.

    Yields:
        A set that is filled with the names of what was opened.
    """
    from chromadb.api.shared_system_client import SharedSystemClient as Shared  # noqa: PLC0415

    opened: set[str] = set()
    with _OPENING:
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
    session = (
        getattr(system.instance(cast("Any", ServerAPI)), "_session", None) if system is not None else None
    )
    if session is not None:
        session.close()


def _quiet(chromadb: Any) -> Any:
    logging.getLogger("chromadb.telemetry").setLevel(logging.CRITICAL)
    return chromadb.Settings(anonymized_telemetry=False)
