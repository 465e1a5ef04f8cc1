"""`gems repair` with real pipelines of Diffusers at tiny sizes, and with servers that edit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gems.models import masks
from gems.models.masks import make_mask, read_mask
from gems.models.registration import Aligned
from tests.support import faulty_chat, tiny_editors, tiny_pipelines
from tests.support.comfyui_server import serving_comfyui
from tests.support.comfyui_workflows import inpainting, inpainting_with_mask, save, with_references
from tests.support.repairs import is_kept_outside, mask, photo
from tests.support.stub import StubServer
from tests.support.stub.models import edited_picture, inpainted_picture
from tests.support.terminal import here

SIZE = (64, 64)
_FROM_BOX: tuple[int, ...] = read_mask(make_mask([faulty_chat.BOX], SIZE), SIZE).getbbox() or ()
BOXES = {"box of the judge": _FROM_BOX, "mask of the user": (8, 24, 40, 56)}


@pytest.fixture
def judge() -> Iterator[str]:
    with StubServer(chat=faulty_chat.chat) as stub:
        yield f"openai:stub@{stub.base_url}"


def mended(judge: str, generator: str, tmp_path: Path, bounds: str, *more: str) -> dict[str, Any]:
    """Mend a picture in two rounds; the result, in which nothing has changed outside of the bounds."""
    (tmp_path / "photo.png").write_bytes(photo(SIZE))
    given = ["repair", "photo.png", "a red cat asleep", "--chat", judge, "--generator", generator, "--seed", "7"]
    given += ["--repair", "always", "--rounds", "3", "--plateau", "0", "--skills", "none", "--json", *more]
    if bounds == "mask of the user":
        (tmp_path / "mask.png").write_bytes(mask(SIZE, BOXES[bounds]))  # type: ignore[arg-type]
        given += ["--mask", "mask.png"]
    done = here(*given)
    assert done.exit_code == 3, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    store = Path(told["path"]).parents[1] / "images"
    changed = [turn for turn in told["rounds"] if turn["action"] == "inpaint" or "mask" in turn]
    assert changed, told["rounds"]
    for turn in changed:
        name = turn["candidates"][0]["image"]
        parent, child = ((store / each[:2] / f"{each}.png").read_bytes() for each in (turn["parent"], name))
        assert is_kept_outside(parent, child, BOXES[bounds])  # type: ignore[arg-type]
    return told


@pytest.mark.parametrize("bounds", BOXES)
@pytest.mark.parametrize("name", ["flux2_klein", "flux_kontext", "z_image", "z_image_inpaint"])
def test_tiny_pipelines_mend(
    judge: str, tmp_path: Path, name: str, bounds: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMS_GENERATOR__STEPS", "2")
    monkeypatch.setenv("GEMS_GENERATOR__DEVICE", "cpu")
    folder = z_image_inpaint(root) if name == "z_image_inpaint" else tiny_editors.saved(name, root)
    told = mended(judge, f"diffusers:{folder}", tmp_path, bounds)
    assert {turn["action"] for turn in told["rounds"]} >= {"given", "inpaint"}


def z_image_inpaint(root: Path) -> Path:
    """A folder whose pipeline is `ZImageInpaintPipeline` itself."""
    import diffusers

    folder = root / "tinypipes" / "z_image_inpaint"
    if not folder.is_dir():
        diffusers.ZImageInpaintPipeline(**tiny_pipelines.z_image().components).save_pretrained(folder)
    return folder


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    torch = pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    torch.set_num_threads(1)
    # Random weights keep nothing of an image, so that what is outside of a mask cannot be compared with it.
    monkeypatch.setattr(masks, "align", lambda edited, *_: Aligned(edited, (0, 0), recoloured=False))
    with tiny_editors.loadable(monkeypatch):
        yield tmp_path_factory.getbasetemp()


@pytest.mark.parametrize("bounds", BOXES)
@pytest.mark.parametrize("paint", [edited_picture, inpainted_picture])
def test_server_of_openai_edits_mends(judge: str, tmp_path: Path, bounds: str, paint: Any) -> None:
    with StubServer(images=paint) as stub:
        told = mended(judge, f"openai:painter@{stub.base_url}", tmp_path, bounds)
        calls = stub.calls("images")
    assert {call.path for call in calls} == {"/v1/images/edits"}
    assert len(calls) == len(told["rounds"]) - 1


@pytest.mark.parametrize("bounds", BOXES)
@pytest.mark.parametrize("nodes", [inpainting, inpainting_with_mask])
def test_comfyui_mends(judge: str, tmp_path: Path, bounds: str, nodes: Any) -> None:
    with serving_comfyui() as server:
        told = mended(judge, f"comfyui:{save(tmp_path, nodes())}@{server.url}", tmp_path, bounds)
    assert len(server.prompts) == len(told["rounds"]) - 1


# With the last two seeds the stub's picture is about as bright as the source everywhere.
@pytest.mark.parametrize("seed", ["1", "7", "9"])
def test_server_that_draws_another_picture_is_refused(judge: str, tmp_path: Path, seed: str) -> None:
    (tmp_path / "photo.png").write_bytes(photo(SIZE))
    with serving_comfyui() as server:
        workflow = save(tmp_path, with_references())
        given = ["--chat", judge, "--generator", f"comfyui:{workflow}@{server.url}", "--repair", "always"]
        given += ["--seed", seed]
        done = here("repair", "photo.png", "a red cat asleep", *given, "--rounds", "2", "--skills", "none", "--json")
    told = json.loads(done.stdout)
    turn = told["rounds"][1]
    assert (turn["action"], turn["abandoned"]) == ("redraw", "edit")
    assert any("cannot be aligned" in warning for warning in told["warnings"])
    assert (told["usage"]["generator"]["calls"], len(server.prompts)) == (2, 2)
