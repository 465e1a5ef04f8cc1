"""Images that several machines share."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path
from typing import Any

import pytest

from gems.errors import ConfigurationError, ImageMissingError
from gems.memory import file_store
from gems.memory.images import ImageStore, SharedImageStore
from gems.service import Gems
from gems.settings import Settings


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


async def test_image_that_cannot_be_shared_is_not_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
