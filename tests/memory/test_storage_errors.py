"""What the file system and SQLite say, in our words."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gems.errors import CorruptStoreError, DiskFullError, StorageError
from gems.memory.checkpointer import checkpoint_serializer
from gems.memory.sqlite import reading, storage_error


@pytest.mark.parametrize("said", ["disk I/O error", "unable to open database file"])
@pytest.mark.parametrize(("free", "name"), [(0, DiskFullError), (4096, DiskFullError), (10**9, StorageError)])
def test_disk_is_full_where_sqlite_does_not_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, free: int, name: type[StorageError]
) -> None:
    asked: list[Path] = []

    def usage(path: Path) -> Any:
        asked.append(path)
        return SimpleNamespace(free=free)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    found = storage_error(sqlite3.OperationalError(said), tmp_path / "store.sqlite3")
    assert type(found) is name
    assert asked == [tmp_path]


def test_disk_about_which_nothing_is_known(tmp_path: Path) -> None:
    found = storage_error(sqlite3.OperationalError("disk I/O error"), tmp_path / "none" / "store.sqlite3")
    assert type(found) is StorageError


@pytest.mark.parametrize(
    "error", [TypeError("no"), ValueError("no"), KeyError("no"), sqlite3.DatabaseError("malformed")]
)
def test_what_cannot_be_decoded_is_damaged(error: Exception) -> None:
    with pytest.raises(CorruptStoreError, match="store") as caught, reading(Path("store")):
        raise error
    assert caught.value.__cause__ is error
    assert "Move it away" in caught.value.hint


def test_errors_of_ours_keep_their_names_while_reading() -> None:
    known = DiskFullError("full")
    with pytest.raises(DiskFullError) as caught, reading(Path("store")):
        raise known
    assert caught.value is known


def test_what_is_nested_too_deeply_is_damaged() -> None:
    with pytest.raises(CorruptStoreError, match="RecursionError"), reading(Path("checkpoints.sqlite3")):
        checkpoint_serializer().loads_typed(("json", b"[" * 50_000))
