"""Detectors of transformers, with random weights."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gems.errors import ConfigurationError, ModelFilesError
from gems.models.chat.vision import red_square
from gems.models.detectors.base import DetectionRequest, ObjectDetector
from gems.models.detectors.transformers import TransformersDetector
from tests.support.tiny_detectors import save_grounding_dino, save_owlv2

SAVES = {"owlv2": save_owlv2, "grounding-dino": save_grounding_dino}
IMAGE = red_square(96)


@pytest.fixture(scope="module", params=sorted(SAVES))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SAVES[request.param](tmp_path_factory.mktemp("detectors") / request.param)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


async def test_finds_the_same_objects_again_with_boxes_inside(folder: Path) -> None:
    detector = TransformersDetector(str(folder), device="cpu", threshold=0.05)
    assert isinstance(detector, ObjectDetector)
    assert detector.name == f"transformers:{folder.name}"
    request = DetectionRequest(image=IMAGE, phrases=("red cat", "dog"))
    first = await detector.detect(request)
    assert first.objects
    assert {each.phrase for each in first.objects} <= set(request.phrases)
    for each in first.objects:
        assert 0.025 <= each.score <= 1
        assert 0 <= each.box[0] < each.box[2] <= 1000
        assert 0 <= each.box[1] < each.box[3] <= 1000
    assert await detector.detect(request) == first
    assert (await detector.detect(DetectionRequest(image=IMAGE, phrases=()))).objects == ()
    await detector.aclose()
    await detector.aclose()


async def test_a_phrase_that_is_too_long_is_undecided(folder: Path) -> None:
    detector = TransformersDetector(str(folder), device="cpu", threshold=0.05)
    long = "a bc " * 100
    found = await detector.detect(DetectionRequest(image=IMAGE, phrases=(long, "dog")))
    await detector.aclose()
    assert found.undecided == {long}
    assert not found.of(long)
    assert found.of("dog")


async def test_a_folder_without_a_detector(tmp_path: Path) -> None:
    for name in (str(tmp_path), "nobody/no-such-model"):
        detector = TransformersDetector(name)
        with pytest.raises(ModelFilesError, match="cannot be loaded") as raised:
            await detector.detect(DetectionRequest(image=IMAGE, phrases=("cat",)))
        assert f"hf download {name}" in raised.value.hint
        await detector.aclose()


async def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = save_owlv2(tmp_path / "owl") / "model.safetensors"
    tensors = load_file(weights)
    name = next(iter(tensors))
    save_file({**tensors, name: tensors[name] * float("nan")}, weights, metadata={"format": "pt"})
    detector = TransformersDetector(str(tmp_path / "owl"), device="cpu")
    with pytest.raises(ModelFilesError, match="weights that are missing or no numbers"):
        await detector.detect(DetectionRequest(image=IMAGE, phrases=("cat",)))
    await detector.aclose()


async def test_a_device_that_is_not_there() -> None:
    detector = TransformersDetector("owl", device="cuda:99")
    with pytest.raises(ConfigurationError, match="cuda:99"):
        await detector.detect(DetectionRequest(image=IMAGE, phrases=("cat",)))
    await detector.aclose()
