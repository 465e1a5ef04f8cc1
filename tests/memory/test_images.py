"""The image store, in a folder and shared by several machines."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from gems.errors import ConfigurationError, DiskFullError, ImageMissingError, StorageError
from gems.files.shared import write_atomically
from gems.memory import file_store
from gems.memory.images import ImageStore, SharedImageStore
from gems.service import Gems
from gems.settings import Settings

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
    "bad", ["", "x", ID[:-1], ID + "0", ID.upper(), "../" * 21 + "x", f"{ID[:60]}/../", "/" + ID[1:], ID + "\n"]
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


@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o022, 0o644), (0o077, 0o600)])
def test_files_have_the_permissions_of_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "out.png", b"a picture")
        write_atomically(tmp_path / "keys.json", b"{}", private=True)
    finally:
        os.umask(before)
    assert (tmp_path / "out.png").stat().st_mode & 0o777 == mode
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600


def test_file_that_could_not_be_replaced_stays_as_it_was(tmp_path: Path, disk: Disk) -> None:
    target = tmp_path / "out.png"
    target.write_bytes(b"before")
    with pytest.raises(OSError, match="space"):
        write_atomically(target, b"after")
    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]


@pytest.fixture(params=["folder", "objects"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "shared") if request.param == "folder" else f"memory://{tmp_path.name}/shared"


async def test_another_machine_fetches_an_image_once(tmp_path: Path, url: str) -> None:
    image = await SharedImageStore(tmp_path / "one", url).put(b"a picture")
    other = SharedImageStore(tmp_path / "other", url)
    assert await other.load(image) == b"a picture"
    assert await ImageStore(tmp_path / "other").load(image) == b"a picture"


async def test_what_is_nowhere_is_missing(tmp_path: Path, url: str) -> None:
    store = SharedImageStore(tmp_path / "one", url)
    with pytest.raises(ImageMissingError, match="is not in"):
        await store.load(hashlib.sha256(b"nobody's").hexdigest())
    with pytest.raises(ImageMissingError, match="Invalid image id"):
        await store.load("../../etc/passwd")


async def test_damaged_shared_image_is_not_believed(tmp_path: Path) -> None:
    url = tmp_path / "shared"
    image = await SharedImageStore(tmp_path / "one", str(url)).put(b"a picture")
    (url / image[:2] / f"{image}.png").write_bytes(b"another one")
    with pytest.raises(ImageMissingError):
        await SharedImageStore(tmp_path / "other", str(url)).load(image)


async def test_image_that_cannot_be_shared_is_not_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SharedImageStore(tmp_path / "one", str(tmp_path / "shared"))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(file_store, "write_atomically", full)
    image = await store.put(b"a picture")
    assert "no space is left" in str(store.unsaved[image])
    assert await store.load(image) == b"a picture"
    monkeypatch.undo()
    await store.put(b"a picture")
    assert not store.unsaved
    assert await SharedImageStore(tmp_path / "other", str(tmp_path / "shared")).load(image) == b"a picture"


async def test_run_goes_on_in_a_home_without_its_images(tmp_path: Path, database: str) -> None:
    common: dict[str, Any] = {"checkpoint": database, "images": str(tmp_path / "shared"), "experience": "off"}
    async with Gems(Settings(home=tmp_path / "one", **common)) as gems:
        first = await gems.run("a red circle", seed=1, size="128x128", new_id="run-of-one")
    async with Gems(Settings(home=tmp_path / "other", **common)) as gems:
        again = await gems.resume("run-of-one")
    assert again.image_id == first.image_id
    assert again.path is not None
    assert Path(again.path).is_relative_to(tmp_path / "other")


async def test_url_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nonsense"):
        async with Gems(Settings(home=tmp_path, images="nonsense://x")):
            pass


@pytest.mark.parametrize(
    "url",
    [
        "reference::s3://bucket/refs.json",
        "reference://?fo=refs.json",
        "simplecache::s3://bucket",
        "zip://x.zip",
        "zip::http://evil.example/x.zip",
        "libarchive://x",
        "github://owner:repo@/x",
        "git://x",
        "generic://x",
        "filecache::reference::file:///x",
        "nothing-known://x",
        "https://evil.example/x",
    ],
)
def test_a_protocol_that_does_not_store_files_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigurationError, match="its protocol is not among"):
        SharedImageStore(tmp_path / "one", url)
