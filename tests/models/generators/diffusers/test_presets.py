"""What is known about models before torch is imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gems.errors import ModelFilesError, ModelSpecError, SizeError
from gems.models.generators.diffusers.presets import (
    KNOWN,
    PRESETS,
    component_folders,
    find_recipe,
    recipe_for_class,
    recipe_of_folder,
)

pytest.importorskip("diffusers", reason="the extra `diffusers` is not installed")


def layout(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        path = folder / ("model_index.json" if name == "index" else f"{name}/config.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_z_image_turbo() -> None:
    recipe = find_recipe("z-image-turbo")
    assert (recipe.source, recipe.steps, recipe.guidance) == ("Tongyi-MAI/Z-Image-Turbo", 8, 0.0)
    told = recipe.capabilities("diffusers:z-image-turbo", 4, None)
    assert (told.default_size, told.size_multiple, told.negative_prompts) == ((1024, 1024), 16, False)
    told.check_size(1024, 768)
    with pytest.raises(SizeError, match="multiples of 16"):
        told.check_size(1000, 1024)


@pytest.mark.parametrize("name", ["qwen-image", "qwen-image-paper"])
def test_qwen_image(name: str) -> None:
    recipe = find_recipe(name)
    assert (recipe.source, recipe.steps, recipe.guidance) == ("Qwen/Qwen-Image-2512", 50, 4.0)
    told = recipe.capabilities("x", 1, None)
    assert told.default_size == (1328, 1328)
    assert told.negative_prompts == (name == "qwen-image")
    for width, height in [(1328, 1328), (1664, 928), (928, 1664), (1104, 1472), (1056, 1584)]:
        told.check_size(width, height)
    with pytest.raises(SizeError, match="Choose one of"):
        told.check_size(1024, 1024)


def test_the_default_size_of_every_recipe_can_be_drawn() -> None:
    for recipe in [*map(recipe_for_class, KNOWN), *map(find_recipe, PRESETS)]:
        recipe.capabilities("x", 1, None).check_size(*recipe.size)


@pytest.mark.parametrize(
    ("files", "size"),
    [
        ({"index": {"_class_name": "QwenImagePipeline"}, "vae": {"z_dim": 16}}, (1328, 1328)),
        ({"index": {"_class_name": "ZImagePipeline"}, "vae": {"sample_size": 1024}}, (1024, 1024)),
        (
            {
                "index": {"_class_name": "StableDiffusionPipeline"},
                "unet": {"sample_size": 96},
                "vae": {"sample_size": 512, "block_out_channels": [1, 2, 3, 4]},
            },
            (768, 768),
        ),
        ({"index": {"_class_name": "OtherPipeline"}, "unet": {"sample_size": [64, 128]}}, (1024, 512)),
        ({"index": {"_class_name": "OtherPipeline"}}, (1024, 1024)),
    ],
)
def test_a_directory_tells_its_own_size(tmp_path: Path, files: dict[str, Any], size: tuple[int, int]) -> None:
    recipe = find_recipe(str(layout(tmp_path, **files)))
    assert recipe.size == size
    assert recipe.source == str(tmp_path)


def test_a_directory_of_a_known_class_is_called_like_its_family(tmp_path: Path) -> None:
    recipe = recipe_of_folder(layout(tmp_path, index={"_class_name": "StableDiffusionPipeline"}))
    assert (recipe.multiple, recipe.steps, recipe.guidance) == (8, 50, 7.5)
    assert recipe.heeds_negative(7.5)
    assert not recipe.heeds_negative(1.0)


@pytest.mark.parametrize(("distilled", "heeded"), [(True, False), (False, True)])
def test_flux_2_klein_heeds_a_negative_prompt_unless_it_is_distilled(
    tmp_path: Path, distilled: bool, heeded: bool
) -> None:
    index = {"_class_name": "Flux2KleinPipeline", "is_distilled": distilled}
    assert recipe_of_folder(layout(tmp_path, index=index)).heeds_negative(4.0) == heeded


def test_a_class_of_which_little_is_known_is_not_batched(tmp_path: Path) -> None:
    unknown = recipe_of_folder(layout(tmp_path / "a", index={"_class_name": "OtherPipeline"}))
    known = recipe_of_folder(layout(tmp_path / "b", index={"_class_name": "FluxPipeline"}))
    assert [each.capabilities("x", 4, None).max_batch for each in (unknown, known)] == [1, 4]


def test_components_are_told_from_settings(tmp_path: Path) -> None:
    index = {
        "_class_name": "StableDiffusionPipeline",
        "requires_safety_checker": True,
        "image_encoder": [None, None],
        "unet": ["diffusers", "UNet2DConditionModel"],
    }
    assert component_folders(layout(tmp_path, index=index)) == ["unet"]


@pytest.mark.parametrize("index", ["{", "[]", '{"_class_name": ["own", "Pipeline"]}', "{}"])
def test_an_index_that_cannot_be_used(tmp_path: Path, index: str) -> None:
    with pytest.raises(ModelFilesError):
        find_recipe(str(layout(tmp_path, index=index)))


def test_a_directory_without_an_index(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=r"contains no model_index\.json"):
        find_recipe(str(tmp_path))


@pytest.mark.parametrize("name", ["missing", "deep/er/still"])
def test_a_directory_that_does_not_exist(tmp_path: Path, name: str) -> None:
    for model in (str(tmp_path / name), f"./{name}", f"~/{name}-that-is-not-there"):
        with pytest.raises(ModelFilesError, match="does not exist"):
            find_recipe(model)


def test_a_single_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelFilesError, match="is a file"):
        find_recipe(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("model", ["z-image-turb", "", "two words/x"])
def test_a_name_that_means_nothing_is_answered_with_those_that_do(model: str) -> None:
    with pytest.raises(ModelSpecError, match="z-image-turbo"):
        find_recipe(model)
