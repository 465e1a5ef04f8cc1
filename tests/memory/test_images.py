"""Images on disk, each under the SHA-256 of its bytes."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from pathlib import Path

import pytest

from gems.errors import DiskFullError, ImageMissingError, StorageError
from gems.memory.file_store import write_atomically
from gems.memory.images import ImageStore

DATA = b"\x89PNG and so on"
ID = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


class Disk:
    """Has no space left for what is flushed to it."""

    full = True

    def flush(self, handle: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    full = Disk()
    monkeypatch.setattr("os.fsync", full.flush)
    return full


def files(store: ImageStore) -> list[Path]:
    return [path for path in store.folder.rglob("*") if path.is_file()]


async def test_what_was_put_can_be_loaded(store: ImageStore) -> None:
    assert await store.put(DATA) == ID
    assert await store.load(ID) == DATA
    assert store.path(ID).read_bytes() == DATA
    assert await ImageStore(store.folder).load(ID) == DATA


async def test_same_bytes_are_kept_once(store: ImageStore) -> None:
    await store.put(DATA)
    before = store.path(ID).stat()
    assert await asyncio.gather(*(store.put(DATA) for _ in range(8))) == [ID] * 8
    assert files(store) == [store.path(ID)]
    assert store.path(ID).stat().st_ino == before.st_ino


async def test_many_writers_of_the_same_new_image(store: ImageStore) -> None:
    assert await asyncio.gather(*(store.put(DATA) for _ in range(8))) == [ID] * 8
    assert files(store) == [store.path(ID)]
    assert await store.load(ID) == DATA


@pytest.mark.parametrize("damaged", [DATA[:-1] + b"N", b"", DATA + b"more"])
async def test_changed_file_is_noticed_and_mended_by_the_next_put(store: ImageStore, damaged: bytes) -> None:
    await store.put(DATA)
    store.path(ID).write_bytes(damaged)
    with pytest.raises(ImageMissingError, match="changed"):
        await store.load(ID)
    await store.put(DATA)
    assert await store.load(ID) == DATA


async def test_missing_image_is_named(store: ImageStore) -> None:
    with pytest.raises(ImageMissingError, match=ID):
        await store.load(ID)


@pytest.mark.parametrize(
    "bad",
    ["", "x", ID[:-1], ID + "0", ID.upper(), "../" * 21 + "x", f"{ID[:60]}/../", "/" + ID[1:], ID + "\n"],
)
async def test_what_is_no_id_names_no_file(store: ImageStore, bad: str) -> None:
    with pytest.raises(ImageMissingError, match="Invalid image id"):
        await store.load(bad)
    with pytest.raises(ImageMissingError):
        store.path(bad)


async def test_unreadable_image_is_a_storage_error(store: ImageStore) -> None:
    store.path(ID).mkdir(parents=True)
    with pytest.raises(StorageError) as caught:
        await store.load(ID)
    assert not isinstance(caught.value, ImageMissingError)


async def test_full_disk_costs_no_image(store: ImageStore, disk: Disk) -> None:
    assert await store.put(DATA) == ID
    assert isinstance(store.unsaved[ID], DiskFullError)
    assert await store.load(ID) == DATA
    assert files(store) == []


async def test_image_that_could_be_written_after_all_is_saved(store: ImageStore, disk: Disk) -> None:
    await store.put(DATA)
    disk.full = False
    await store.put(DATA)
    assert store.unsaved == {}
    assert store.path(ID).read_bytes() == DATA


async def test_folder_that_cannot_be_made_costs_no_image(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("a file stands where the folder should be")
    store = ImageStore(tmp_path / "images")
    assert await store.put(DATA) == ID
    assert isinstance(store.unsaved[ID], StorageError)
    assert await store.load(ID) == DATA


def test_file_that_could_not_be_replaced_stays_as_it_was(tmp_path: Path, disk: Disk) -> None:
    target = tmp_path / "out.png"
    target.write_bytes(b"before")
    with pytest.raises(OSError, match="space"):
        write_atomically(target, b"after")
    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]
