"""LoRAs and quantised weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from gems.errors import ConfigurationError, MissingExtraError, ModelFilesError
from gems.memory.experience import namespace
from gems.models.factory import open_generator
from gems.models.generators.diffusers.adapters import Lora, find_lora
from gems.models.generators.diffusers.generator import DiffusersGenerator
from gems.settings import GeneratorSettings, load_settings
from tests.support import tiny_pipelines
from tests.support.diffusers_generators import ask, drawing

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

LAYER = "transformer.layers.0.attention.to_q"


@pytest.fixture
def z_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_pipelines.saved("z_image", tmp_path_factory.getbasetemp())


def write_lora(path: Path, layer: str = LAYER, width: int = 32) -> Path:
    from safetensors.torch import save_file

    source = torch.Generator().manual_seed(5)
    shapes = {"lora_A": (4, width), "lora_B": (width, 4)}
    save_file({f"{layer}.{name}.weight": torch.randn(shape, generator=source) for name, shape in shapes.items()}, path)
    return path


async def test_a_lora_acts_by_its_weight_and_is_recorded(z_image: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="the extra `diffusers` is not complete")
    lora = str(write_lora(tmp_path / "style.safetensors"))
    images = {}
    for weight in (None, 0.0, 0.5, 2.0):
        async with drawing(z_image, loras=[(lora, weight)] if weight is not None else []) as generator:
            images[weight] = await generator.generate(ask())
    assert images[None].data == images[0.0].data
    assert len({image.data for image in images.values()}) == 3
    assert "loras" not in images[None].parameters
    (told,) = images[0.5].parameters["loras"]
    assert (told["name"], told["weight"], len(told["sha256"])) == ("style.safetensors", 0.5, 12)


async def test_loras_are_part_of_the_models_name(z_image: Path, tmp_path: Path) -> None:
    """Lessons, counts and recipes are found by this name, so each behaviour needs its own."""
    pytest.importorskip("peft", reason="the extra `diffusers` is not complete")
    one = write_lora(tmp_path / "style.safetensors")
    (tmp_path / "later").mkdir()
    other = write_lora(tmp_path / "later" / "style.safetensors", LAYER.replace("to_q", "to_v"))
    given = [[], [(str(one), 0.5)], [(str(one), 1.0)], [(str(other), 1.0)], [(str(one), 1.0), (str(other), 1.0)]]
    names = []
    for loras in given:
        async with drawing(z_image, loras=loras) as generator:
            names.append(generator.capabilities.model)
            if loras == given[1]:
                image = await generator.generate(ask())
                digest = image.parameters["loras"][0]["sha256"]
                assert image.model == names[-1] == f"diffusers:{z_image}+style-{digest}:0.5"
                assert generator.capabilities.model == names[-1]
    assert len(set(names)) == len(given)
    assert len({namespace("lessons", name) for name in names}) == len(given)


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")
async def test_several_loras_act_together(z_image: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="the extra `diffusers` is not complete")
    one = (str(write_lora(tmp_path / "one.safetensors")), 1.0)
    two = (str(write_lora(tmp_path / "two.safetensors", LAYER.replace("to_q", "to_v"))), 1.0)
    data = set()
    for loras in ([one], [two], [one, two]):
        async with drawing(z_image, loras=loras) as generator:
            data.add((await generator.generate(ask())).data)
    assert len(data) == 3


@pytest.mark.parametrize(
    ("layer", "width"), [(LAYER, 48), ("unet.down_blocks.0.attentions.0.to_q", 32), ("transformer.no_such.to_q", 32)]
)
async def test_a_lora_of_another_model_is_named(z_image: Path, tmp_path: Path, layer: str, width: int) -> None:
    pytest.importorskip("peft", reason="the extra `diffusers` is not complete")
    lora = write_lora(tmp_path / "other.safetensors", layer, width)
    async with drawing(z_image, loras=[(str(lora), 1.0)]) as generator:
        with pytest.raises(ModelFilesError, match=r"LoRA .*other\.safetensors does not fit the model") as raised:
            await generator.generate(ask())
    assert "ZImagePipeline" in raised.value.hint


@pytest.fixture
def with_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found("torch" if name == "peft" else name))


@pytest.mark.usefixtures("with_peft")
@pytest.mark.parametrize("name", ["missing.safetensors", "~/missing", "/no/such/lora.safetensors", "a/b/c/d.bin"])
def test_a_lora_that_is_not_there(z_image: Path, name: str) -> None:
    with pytest.raises(ModelFilesError, match="does not exist"):
        DiffusersGenerator(str(z_image), loras=[(name, 1.0)])


@pytest.mark.usefixtures("with_peft")
def test_a_pickled_lora_is_not_opened(z_image: Path, tmp_path: Path) -> None:
    torch.save({}, tmp_path / "lora.bin")
    with pytest.raises(ModelFilesError, match="is not a safetensors file"):
        DiffusersGenerator(str(z_image), loras=[(str(tmp_path / "lora.bin"), 1.0)])


def test_a_lora_of_the_hub_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelFilesError, match="is not in the cache") as raised:
        find_lora(Lora("nobody/style"))
    assert "hf download nobody/style" in raised.value.hint
    commit = "0" * 40
    entry = tmp_path / "models--nobody--style"
    (entry / "refs").mkdir(parents=True)
    (entry / "refs" / "main").write_text(commit)
    folder = entry / "snapshots" / commit
    folder.mkdir(parents=True)
    file = write_lora(folder / "one.safetensors")
    assert find_lora(Lora("nobody/style")) == find_lora(Lora("nobody/style/one.safetensors")) == file
    write_lora(folder / "two.safetensors")
    with pytest.raises(ModelFilesError, match=r"is not one file: one\.safetensors, two\.safetensors"):
        find_lora(Lora("nobody/style"))


def test_a_missing_package_is_named(z_image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    lacking = ("peft", "bitsandbytes", "torchao")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in lacking else found(name))
    with pytest.raises(MissingExtraError, match=r"gems-agent\[diffusers\]"):
        DiffusersGenerator(str(z_image), loras=[("style.safetensors", 1.0)])
    for quantize, package in (("bitsandbytes-4bit", "bitsandbytes"), ("torchao-int8", "torchao")):
        with pytest.raises(ConfigurationError, match=f"needs the package {package}") as raised:
            DiffusersGenerator(str(z_image), quantize=quantize)
        assert f"pip install {package}" in raised.value.hint
    with pytest.raises(ConfigurationError, match="Invalid quantisation"):
        DiffusersGenerator(str(z_image), quantize="int3")


async def test_weights_are_quantised_while_they_are_loaded(z_image: Path) -> None:
    pytest.importorskip("torchao", reason="a package of the user's choice")
    async with drawing(z_image) as generator:
        plain = await generator.generate(ask())
    async with drawing(z_image, quantize="torchao-int8") as generator:
        image = await generator.generate(ask())
        assert generator._loaded is not None
        parts = generator._loaded.pipe.transformer.layers[0].attention.to_q, generator._loaded.pipe.text_encoder
    assert image.data != plain.data
    assert image.parameters["quantized"] == "torchao-int8"
    assert "Int8" in type(parts[0].weight).__name__
    assert "Int8" in type(parts[1].layers[0].mlp.up_proj.weight).__name__


def test_settings_name_loras_with_their_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    given = '["./style.safetensors", "C:/x.safetensors:0.6", "a/b:-1", {"path": "c:d", "weight": 2}]'
    monkeypatch.setenv("GEMS_GENERATOR__LORAS", given)
    loras = [(lora.path, lora.weight) for lora in load_settings().generator.loras]
    assert loras == [("./style.safetensors", 1.0), ("C:/x.safetensors", 0.6), ("a/b", -1.0), ("c:d", 2.0)]
    for wrong in ("style.safetensors", '["x:1e9"]', '[{"path": "x", "weight": 99}]', '[""]'):
        monkeypatch.setenv("GEMS_GENERATOR__LORAS", wrong)
        if wrong == '["x:1e9"]':
            # No weight, but part of the path.
            assert load_settings().generator.loras[0].path == "x:1e9"
            continue
        with pytest.raises(ConfigurationError, match="GEMS_GENERATOR"):
            load_settings()


@pytest.mark.usefixtures("with_peft")
def test_settings_reach_the_generator(z_image: Path) -> None:
    settings = GeneratorSettings.model_validate({"model": f"diffusers:{z_image}", "loras": ["missing.safetensors:0.5"]})
    with pytest.raises(ModelFilesError, match=r"missing\.safetensors does not exist"):
        open_generator(settings)
