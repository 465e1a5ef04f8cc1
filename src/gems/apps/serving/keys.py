"""API keys of the server's users, with their limits."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gems.errors import ConfigurationError, OptionError, StorageError

_PREFIX = "gems-"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


class Key(BaseModel):
    """A user of the server; only the hash of the key is stored."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="Name of the user, who owns their runs.")
    sha256: str = Field(description="Hash of the key. Keys are 256 random bits, so no slow hash is needed.")
    created: str = Field(description="UTC, ISO 8601.")
    runs_at_a_time: int = Field(2, ge=1)
    images_per_day: int | None = Field(None, ge=1, description="Limit within 24 hours; null for no limit.")


class KeyFile:
    """The key file of a server, reread when it changes; it may be missing. Methods are blocking and fast."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._keys: dict[str, Key] = {}

    def all(self) -> list[Key]:
        """List all keys sorted by name; raise ConfigurationError if the file cannot be read."""
        try:
            status = self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            self._stamp, self._keys = None, {}
            return []
        except OSError as error:
            raise ConfigurationError(f"Cannot read {self._path}: {error.strerror or error}.") from None
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            self._keys = {key.sha256: key for key in self._read()}
            self._stamp = stamp
        return sorted(self._keys.values(), key=lambda key: key.name)

    def find(self, token: str) -> Key | None:
        """Return the key of a token, or None; raise ConfigurationError if the file cannot be read."""
        self.all()
        # Looked up by hash, so that timing reveals nothing about other keys.
        return self._keys.get(_hash_token(token))

    def add(self, name: str, *, runs_at_a_time: int = 2, images_per_day: int | None = None) -> str:
        """Create a key and return its token, which is not stored.

        Raises:
            OptionError: the name is invalid or in use.
            StorageError: the file cannot be written.
        """
        if _NAME.fullmatch(name) is None:
            raise OptionError(
                f"Invalid key name: {name[:60]!r}.", hint="Use lower-case letters, digits and hyphens."
            )
        if any(key.name == name for key in self.all()):
            raise OptionError(f"Key {name!r} exists already.", hint="Revoke it first.")
        token = _PREFIX + secrets.token_urlsafe(32)
        key = Key(
            name=name,
            sha256=_hash_token(token),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            runs_at_a_time=runs_at_a_time,
            images_per_day=images_per_day,
        )
        self._write([*self.all(), key])
        return token

    def revoke(self, name: str) -> None:
        """Delete a key; its runs stay.

        Raises:
            OptionError: there is no such key.
            StorageError: the file cannot be written.
        """
        kept = [key for key in self.all() if key.name != name]
        if len(kept) == len(self._keys):
            known = ", ".join(key.name for key in kept) or "none"
            raise OptionError(f"Key not found: {name[:60]!r}.", hint=f"Known keys: {known}.")
        self._write(kept)

    def _read(self) -> list[Key]:
        try:
            listed = json.loads(self._path.read_text(encoding="utf-8"))["keys"]
            return [Key.model_validate(item) for item in listed]
        except (OSError, ValueError, KeyError, TypeError, RecursionError, ValidationError) as error:
            raise ConfigurationError(
                f"Cannot read the key file {self._path}: {type(error).__name__}.",
                hint="Repair the file, or delete it and create the keys again with `gems keys add`.",
            ) from None

    def _write(self, keys: list[Key]) -> None:
        text = json.dumps({"keys": [key.model_dump() for key in keys]}, indent=2)
        scratch = self._path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(f"{text}\n")
            scratch.replace(self._path)
        except OSError as error:
            raise StorageError(f"Cannot write {self._path}: {error.strerror or error}.") from None
        self._stamp = None


def _hash_token(token: str) -> str:
    # Clients may send lone surrogates, which no key contains.
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
