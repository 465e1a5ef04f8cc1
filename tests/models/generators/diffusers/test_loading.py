"""Model files that are missing, damaged, pickled or carry code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gems.errors import ConfigurationError, InvalidImageError, ModelFilesError, OptionError, OutOfMemoryError
from gems.generation import GeneratedImage, ImageRequest
from gems.models.generators.diffusers.generator import DiffusersGenerator
from gems.models.generators.diffusers.loading import choose_offload
from tests.support import tiny_pipelines

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

GIB = 2**30
TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"
TEXT_ENCODER = "text_encoder/model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"


@pytest.fixture
def model(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A copy of a tiny Z-Image that a test may damage."""
    torch.set_num_threads(1)
    whole = tiny_pipelines.saved("z_image", tmp_path_factory.getbasetemp())
    return shutil.copytree(whole, tmp_path / "model")


async def draw(model: Path | str, **options: Any) -> GeneratedImage:
    generator = DiffusersGenerator(str(model), **{"steps": 1, "device": "cpu", **options})
    try:
        return await generator.generate(ImageRequest(prompt="a cube", seed=1, width=64, height=64))
    finally:
        await generator.aclose()


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def rewrite_index(model: Path, **entries: Any) -> None:
    index = model / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | entries))


async def test_undamaged_files_draw(model: Path) -> None:
    assert (await draw(model)).width == 64


@pytest.mark.parametrize("file", [TRANSFORMER, TEXT_ENCODER, VAE])
async def test_a_truncated_file(model: Path, file: str) -> None:
    path = model / file
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelFilesError, match="Download the model again"):
        await draw(model)


@pytest.mark.parametrize("file", [TRANSFORMER, TEXT_ENCODER, VAE])
async def test_pickled_weights_are_not_opened(model: Path, file: str) -> None:
    from safetensors.torch import load_file

    path = model / file
    name = "pytorch_model.bin" if file == TEXT_ENCODER else "diffusion_pytorch_model.bin"
    torch.save(load_file(path), path.with_name(name))
    path.unlink()
    with pytest.raises(ModelFilesError, match="safetensors"):
        await draw(model)


@pytest.mark.parametrize(
    ("file", "key"),
    [
        (TRANSFORMER, "layers.0.attention.to_q.weight"),
        (TEXT_ENCODER, "layers.0.self_attn.q_proj.weight"),
        (VAE, "decoder.conv_in.bias"),
    ],
)
async def test_weights_that_are_not_in_the_files(model: Path, file: str, key: str) -> None:
    rewrite(model / file, lambda weights: weights.pop(key))
    with pytest.raises(ModelFilesError, match=f"lack 1 weights of the model, e.g. {key}"):
        await draw(model)


@pytest.mark.parametrize("folder", ["text_encoder", "tokenizer", "scheduler", "vae"])
async def test_a_missing_component(model: Path, folder: str) -> None:
    shutil.rmtree(model / folder)
    with pytest.raises(ModelFilesError, match=f"incomplete: {folder} is missing"):
        await draw(model)


async def test_a_shard_that_was_not_downloaded_is_named(model: Path) -> None:
    pipe = tiny_pipelines.z_image()
    pipe.transformer.save_pretrained(model / "transformer", max_shard_size="40KB")
    (model / TRANSFORMER).unlink(missing_ok=True)
    assert (await draw(model)).width == 64
    *_, last = sorted((model / "transformer").glob("*-of-*.safetensors"))
    last.unlink()
    with pytest.raises(ModelFilesError, match=f"is incomplete: transformer/{last.name} is missing"):
        await draw(model)


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        ("GatedRepoError", "nobody/tiny is gated", "Accept its licence at https://huggingface.co/nobody/tiny"),
        ("RepositoryNotFoundError", "The Hub has no public model nobody/tiny", "HF_TOKEN"),
    ],
)
async def test_a_model_that_the_hub_does_not_hand_out(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch, error: str, message: str, hint: str
) -> None:
    import diffusers
    import httpx
    from huggingface_hub import errors

    def refuse(*_arguments: Any, **_options: Any) -> None:
        request = httpx.Request("GET", "https://huggingface.co/nobody/tiny")
        raise getattr(errors, error)("no access", response=httpx.Response(401, request=request))

    monkeypatch.setattr(diffusers.DiffusionPipeline, "download", refuse)
    with pytest.raises(ModelFilesError, match=message) as raised:
        await draw("nobody/tiny")
    assert hint in raised.value.hint
    assert "HF_TOKEN" in raised.value.hint


async def test_weights_that_are_not_numbers(model: Path) -> None:
    rewrite(model / TRANSFORMER, lambda weights: [each.fill_(float("nan")) for each in weights.values()])
    with pytest.raises(InvalidImageError, match="invalid numbers"):
        await draw(model)


async def test_weights_that_draw_only_black(model: Path) -> None:
    rewrite(model / VAE, lambda weights: weights["decoder.conv_out.bias"].fill_(-1e4))
    with pytest.raises(InvalidImageError, match="black"):
        await draw(model)


async def test_code_that_comes_with_a_component_is_not_run(model: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    code = f"from pathlib import Path\nPath({str(trace)!r}).touch()\nclass Thing: pass\n"
    (model / "transformer" / "own.py").write_text(code)
    rewrite_index(model, transformer=["own", "Thing"])
    with pytest.raises(ModelFilesError):
        await draw(model)
    assert not trace.exists()


def test_a_pipeline_of_its_own_code_is_refused_at_construction(model: Path) -> None:
    rewrite_index(model, _class_name=["own", "Thing"])
    with pytest.raises(ModelFilesError, match="custom code"):
        DiffusersGenerator(str(model))


async def test_a_pipeline_that_only_edits_draws_nothing_from_a_prompt(model: Path) -> None:
    rewrite_index(model, _class_name="ZImageImg2ImgPipeline")
    with pytest.raises(OptionError, match="ZImageImg2ImgPipeline edits images, and draws none from a prompt alone"):
        await draw(model)


def test_a_pipeline_that_makes_no_images_is_refused_with_the_reason(model: Path) -> None:
    rewrite_index(model, _class_name="WanPipeline")
    with pytest.raises(ModelFilesError, match="cannot be used: WanPipeline makes videos"):
        DiffusersGenerator(str(model))


async def test_a_pipeline_that_this_version_of_diffusers_does_not_know(model: Path) -> None:
    rewrite_index(model, _class_name="NoSuchPipeline")
    with pytest.raises(ModelFilesError, match="NoSuchPipeline"):
        await draw(model)


async def test_a_failed_loading_is_tried_again_with_the_next_request(model: Path) -> None:
    path = model / TRANSFORMER
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    generator = DiffusersGenerator(str(model), steps=1, device="cpu")
    request = ImageRequest(prompt="a cube", seed=1, width=64, height=64)
    with pytest.raises(ModelFilesError):
        await generator.generate(request)
    path.write_bytes(whole)
    assert (await generator.generate(request)).width == 64
    await generator.aclose()


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    from huggingface_hub import constants

    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


async def test_a_hub_name_without_network(hub_cache: Path) -> None:
    with pytest.raises(ModelFilesError, match="Connect to the internet"):
        await draw("nobody/nothing")


async def test_a_hub_name_in_the_cache_needs_no_network(hub_cache: Path, model: Path) -> None:
    commit = "0" * 40
    entry = hub_cache / "models--nobody--tiny"
    (entry / "refs").mkdir(parents=True)
    (entry / "refs" / "main").write_text(commit)
    shutil.copytree(model, entry / "snapshots" / commit)
    assert not DiffusersGenerator("nobody/tiny").capabilities.negative_prompts
    image = await draw("nobody/tiny")
    assert (image.model, image.parameters["pipeline"]) == ("diffusers:nobody/tiny", "ZImagePipeline")


async def test_memory_that_does_not_suffice_for_the_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    def full(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)")

    monkeypatch.setattr(diffusers.DiffusionPipeline, "to", full)
    with pytest.raises(OutOfMemoryError, match="does not fit"):
        await draw(model)


async def test_a_package_that_the_model_needs(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    def lacking(*arguments: Any, **options: Any) -> None:
        raise ImportError("T5Tokenizer requires the sentencepiece library")

    monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", lacking)
    with pytest.raises(ConfigurationError, match="sentencepiece") as raised:
        await draw(model)
    assert type(raised.value) is ConfigurationError


@pytest.mark.parametrize(
    ("asked", "device", "free_gib", "expected"),
    [
        ("auto", "cpu", 0, "none"),
        ("model", "cpu", 0, "none"),
        ("auto", "mps", 0, "none"),
        ("auto", "cuda", 24, "none"),
        ("auto", "cuda", 16, "model"),
        ("auto", "cuda", 12, "sequential"),
        ("none", "cuda", 1, "none"),
        ("sequential", "cuda", 80, "sequential"),
    ],
)
def test_offloading_by_memory(asked: Any, device: str, free_gib: int, expected: str) -> None:
    # Z-Image-Turbo's parts: transformer, text encoder, VAE.
    parts = [int(11.5 * GIB), int(7.5 * GIB), int(0.2 * GIB)]
    assert choose_offload(asked, device, parts, free_gib * GIB) == expected
