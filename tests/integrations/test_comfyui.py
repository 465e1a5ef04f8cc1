"""The nodes for ComfyUI, loaded as ComfyUI loads them, on a server and in this process."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import httpx
import pytest

from gems.errors import RejectedRequestError
from tests.support.http_server import app_of, bearer, gated, heard, keys_of, serving
from tests.support.scripted_models import failing
from tests.support.scripted_service import PATIENCE_S, House

torch = pytest.importorskip("torch", reason="the extra `diffusers` is not installed")

FOLDER = Path(__file__).parents[2] / "integrations" / "comfyui"


@pytest.fixture
def pack() -> Iterator[ModuleType]:
    name = "custom_nodes_gems"
    spec = importlib.util.spec_from_file_location(name, FOLDER / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    for each in [each for each in sys.modules if each.startswith(name)]:
        del sys.modules[each]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "home")


@pytest.fixture
def url(house: House) -> Iterator[str]:
    with serving(app_of(house)) as address:
        yield address


class Bar:
    """ComfyUI's progress bar."""

    made: ClassVar[list[Bar]] = []

    def __init__(self, total: int) -> None:
        self.total, self.shown = total, list[int]()
        Bar.made.append(self)

    def update_absolute(self, value: int) -> None:
        self.shown.append(value)


class StoppedError(Exception):
    """What ComfyUI raises when the user cancels."""


@pytest.fixture
def comfy(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The modules of ComfyUI that nodes import; `stop` says whether the user cancelled, `told` what nodes showed."""
    control = SimpleNamespace(stop=lambda: False, told=[])
    told = SimpleNamespace(send_progress_text=lambda text, node_id: control.told.append((node_id, text)))

    def throw() -> None:
        if control.stop():
            raise StoppedError

    Bar.made = []
    package = ModuleType("comfy")
    modules = {
        "comfy": package,
        "comfy.utils": SimpleNamespace(ProgressBar=Bar),
        "comfy.model_management": SimpleNamespace(throw_exception_if_processing_interrupted=throw),
        "comfy_execution": ModuleType("comfy_execution"),
        "comfy_execution.utils": SimpleNamespace(get_executing_context=lambda: SimpleNamespace(node_id="5")),
        "server": SimpleNamespace(PromptServer=SimpleNamespace(instance=told)),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return control


def node(pack: ModuleType, name: str) -> Any:
    return pack.NODE_CLASS_MAPPINGS[name]()


def images(number: int = 1) -> Any:
    return torch.full((number, 40, 60, 3), 0.5)


def test_conventions(pack: ModuleType) -> None:
    assert set(pack.NODE_CLASS_MAPPINGS) == set(pack.NODE_DISPLAY_NAME_MAPPINGS)
    for kind in pack.NODE_CLASS_MAPPINGS.values():
        assert len(kind.RETURN_TYPES) == len(kind.RETURN_NAMES) == len(kind.OUTPUT_TOOLTIPS)
        assert callable(getattr(kind(), kind.FUNCTION))
        assert kind.CATEGORY == "GEMS"
        declared = kind.INPUT_TYPES()
        assert set(declared) <= {"required", "optional"}
        for options in (*declared["required"].values(), *declared["optional"].values()):
            assert options[1]["tooltip"]


@pytest.mark.parametrize("file", sorted(FOLDER.glob("example_workflows/*.json")), ids=lambda file: file.stem)
def test_example_workflows_fit_the_nodes(pack: ModuleType, file: Path) -> None:
    """As the editor of ComfyUI saves them: values in the order of the inputs, and after a seed what becomes of it."""
    nodes = json.loads(file.read_text(encoding="utf-8"))["nodes"]
    ours = [each for each in nodes if each["type"] in pack.NODE_CLASS_MAPPINGS]
    assert ours
    for each in ours:
        kind = pack.NODE_CLASS_MAPPINGS[each["type"]]
        declared = {name: spec for part in kind.INPUT_TYPES().values() for name, spec in part.items()}
        assert {item["name"]: item["type"] for item in each["outputs"]} == dict(
            zip(kind.RETURN_NAMES, kind.RETURN_TYPES, strict=True)
        )
        assert {item["name"] for item in each["inputs"]} == set(declared)
        values = iter(each["widgets_values"])
        for name, (kind_of, *options) in declared.items():
            if kind_of in ("IMAGE", "MASK"):
                continue
            value = next(values)
            if name == "seed":
                assert next(values) == "fixed"
            if name == "server":
                assert value == options[0]["default"]
            assert (
                value in kind_of if isinstance(kind_of, list) else type(value) is {"STRING": str, "INT": int}[kind_of]
            )
        assert not list(values)


def test_images_survive_the_way_to_png_and_back(pack: ModuleType) -> None:
    tensors = sys.modules[f"{pack.__name__}.tensors"]
    image = torch.arange(2 * 3 * 3, dtype=torch.float32).reshape(1, 2, 3, 3) / 255
    assert torch.equal(tensors.decode_image(tensors.encode_png(image[0])), image)
    for channels in (1, 4):
        back = tensors.decode_image(tensors.encode_png(torch.ones((5, 7, channels))))
        assert (back.shape, back.dtype, float(back.max())) == ((1, 5, 7, 3), torch.float32, 1.0)


def test_masks_of_what_failed(pack: ModuleType) -> None:
    draw = sys.modules[f"{pack.__name__}.tensors"].draw_boxes
    failed = {"answer": "no", "box": [500, 0, 1000, 250]}
    others = [{"answer": "yes", "box": [0, 0, 1000, 1000]}, {"answer": "no", "box": None}, {"answer": "no"}]
    mask = draw((8, 10), [failed, *others])
    assert mask.shape == (8, 10)
    assert torch.equal(mask.nonzero().amin(0), torch.tensor([0, 5]))
    assert torch.equal(mask.nonzero().amax(0), torch.tensor([1, 9]))
    # The smallest box has a pixel.
    assert draw((8, 10), [{"answer": "no", "box": [999, 999, 1000, 1000]}]).sum() == 1


def test_verify_on_a_server(pack: ModuleType, url: str, house: House) -> None:
    score, checklist, failed, passed = node(pack, "GemsVerify").execute(images(2), "a red cat", url)
    assert (score, passed, failed.shape, float(failed.sum())) == (1.0, True, (2, 40, 60), 0.0)
    assert checklist.startswith("Image 1\n+ ")
    house.never_pass()
    score, checklist, _, passed = node(pack, "GemsVerify").execute(images(), "a red cat", url)
    assert score < 1
    assert not passed
    assert "\n- " in f"\n{checklist}"


def test_decompose_on_a_server(pack: ModuleType, url: str) -> None:
    requirements, count = node(pack, "GemsDecompose").execute("a red cat", url)
    assert count == len(requirements.splitlines()) > 0


def test_run_on_a_server(pack: ModuleType, url: str, house: House, comfy: SimpleNamespace) -> None:
    picture, score, checklist, prompt, run_id = node(pack, "GemsRun").execute(
        "a red cat", seed=7, max_rounds=2, candidates=1, size="64x96", server=url
    )
    assert picture.shape == (1, 96, 64, 3)
    assert (score, checklist[:2]) == (1.0, "+ ")
    assert house.drawn() == [(prompt, house.drawn()[0][1])]
    assert httpx.get(f"{url}/runs/{run_id}").json()["status"] == "done"
    (bar,) = Bar.made
    assert bar.shown == sorted(bar.shown)
    assert bar.shown[-1] == bar.total == 200
    told = [("5", "Round 1: image 1 is drawn"), ("5", "Round 1: score 1.00"), ("5", checklist)]
    assert comfy.told == told


def test_run_edits_an_image(pack: ModuleType, url: str, house: House) -> None:
    house.edits()
    picture, *_ = node(pack, "GemsRun").execute(
        "make it red", seed=7, max_rounds=1, candidates=1, image=torch.full((1, 64, 64, 3), 0.5), server=url
    )
    assert picture.shape == (1, 64, 64, 3)
    assert house.generator.requests[0].source is not None


def test_repair_keeps_what_is_outside_of_a_mask(pack: ModuleType, url: str, house: House, comfy: Any) -> None:
    house.edits()
    house.chat.script |= {"checklist": failing(1), "verify": "no"}
    image = torch.rand((1, 40, 60, 3), generator=torch.Generator().manual_seed(1))
    mask = torch.zeros((1, 20, 30))
    mask[:, 5:15, 5:15] = 1.0
    given = {"prompt": "a red cat", "seed": 7, "max_rounds": 2, "repair": "always", "server": url}
    given |= {"mask": mask, "instruction": "Paint it red."}
    mended, score, checklist, run_id = node(pack, "GemsRepair").execute(image, **given)
    assert (mended.shape, score, checklist[0]) == ((1, 40, 60, 3), 0.5, "-")
    changed = ((mended - image).abs().amax(-1)[0] > 0.01).nonzero()
    assert (changed.amin(0).tolist(), changed.amax(0).tolist()) == ([10, 10], [29, 29])
    assert httpx.get(f"{url}/runs/{run_id}").json()["rounds"][1]["instruction"] == "Paint it red."
    assert Bar.made[-1].shown[-1] == Bar.made[-1].total == 200


@pytest.mark.parametrize("mask", [None, torch.zeros((1, 64, 64))], ids=["no mask", "an empty one"])
def test_repair_returns_an_image_that_lacks_nothing(pack: ModuleType, url: str, house: House, mask: Any) -> None:
    image = images()
    mended, score, *_ = node(pack, "GemsRepair").execute(image, "a red cat", 7, 2, "auto", mask, server=url)
    assert (score, house.drawn()) == (1.0, [])
    assert torch.allclose(mended, image, atol=1 / 255)


def test_cancelling_in_comfyui_cancels_the_run(
    pack: ModuleType, url: str, house: House, comfy: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = gated(house, 1)

    # The server says nothing more until the image is drawn.
    monkeypatch.setattr("gems.apps.server.runs._PING_S", 3600)
    comfy.stop = gate.is_reached
    with pytest.raises(StoppedError):
        node(pack, "GemsRun").execute("a red cat", seed=7, max_rounds=2, candidates=1, server=url)
    gate.open()
    with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
        (run,) = client.get("/runs").json()["runs"]
        assert heard(client, run["run_id"])[-1]["error"]["type"] == "RunCancelledError"


def test_a_run_that_fails_says_why(pack: ModuleType, url: str, house: House) -> None:
    async def fail() -> None:
        raise RejectedRequestError("The generator is out of paint.", hint="Buy some.")

    house.on_drawing(1, fail)
    with pytest.raises(RuntimeError, match=r"out of paint\. Buy some\."):
        node(pack, "GemsRun").execute("a red cat", seed=7, max_rounds=2, candidates=1, server=url)


def test_errors_say_what_to_do(pack: ModuleType, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = node(pack, "GemsRun")
    with pytest.raises(RuntimeError, match=r"Invalid size: '5'\. Use WIDTHxHEIGHT"):
        run.execute("a red cat", seed=7, max_rounds=2, candidates=1, size="5", server=url)
    with pytest.raises(RuntimeError, match=r"cannot be reached at http://127\.0\.0\.1:9: .*gems serve"):
        node(pack, "GemsDecompose").execute("a red cat", "http://127.0.0.1:9")
    with pytest.raises(RuntimeError, match=r"Invalid server: '127\.0\.0\.1:8765'"):
        node(pack, "GemsDecompose").execute("a red cat", "127.0.0.1:8765")
    with pytest.raises(RuntimeError, match="Leave `generator` or `server` empty"):
        run.execute("a red cat", seed=7, max_rounds=2, candidates=1, server=url, generator="blocks")


def test_a_server_with_keys(pack: ModuleType, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    key = keys_of(house).add("comfyui")
    with serving(app_of(house)) as url:
        assert httpx.get(f"{url}/runs", headers=bearer(key)).status_code == 200
        with pytest.raises(RuntimeError, match="GEMS_SERVER_KEY"):
            node(pack, "GemsDecompose").execute("a red cat", url)
        monkeypatch.setenv("GEMS_SERVER_KEY", key)
        assert node(pack, "GemsDecompose").execute("a red cat", url)[1] > 0


@pytest.fixture
def in_process(pack: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setenv("GEMS_HOME", str(tmp_path / "own"))
    opened = sys.modules[f"{pack.__name__}.backends"]._open_in_process
    yield pack
    opened("").close()
    opened.cache_clear()


def test_everything_in_this_process(in_process: ModuleType, comfy: SimpleNamespace) -> None:
    prompt = "three red circles"
    picture, score, _, _, _ = node(in_process, "GemsRun").execute(
        prompt, seed=7, max_rounds=3, candidates=1, size="256x256"
    )
    assert picture.shape == (1, 256, 256, 3)
    again, checklist, _, _ = node(in_process, "GemsVerify").execute(picture, prompt, "")
    assert again == score
    assert len(checklist.splitlines()) == node(in_process, "GemsDecompose").execute(prompt, "")[1]
    with pytest.raises(RuntimeError, match="Invalid size"):
        node(in_process, "GemsRun").execute(prompt, seed=7, max_rounds=1, candidates=1, size="5")


def test_repair_in_this_process(in_process: ModuleType, comfy: SimpleNamespace) -> None:
    drawn, *_ = node(in_process, "GemsRun").execute("two green stars", 3, 1, 1)
    mended, score, *_ = node(in_process, "GemsRepair").execute(drawn, "two green stars", 7, 20, "auto")
    assert (mended.shape, score) == (drawn.shape, 1.0)


def test_this_comfyui_cannot_draw_for_its_own_node(pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    server = SimpleNamespace(PromptServer=SimpleNamespace(instance=SimpleNamespace(port=8188)))
    monkeypatch.setitem(sys.modules, "server", server)
    with pytest.raises(RuntimeError, match="cannot draw for its own node"):
        node(pack, "GemsRun").execute(
            "a red cat", seed=7, max_rounds=1, candidates=1, generator="comfyui:w.json@http://localhost:8188"
        )
