"""Encoded prompts: the same pixels as Diffusers' own call, each text encoded once, memory bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gems.generation import ImageRequest
from gems.models.generators.diffusers.generator import DiffusersGenerator
from gems.models.generators.diffusers.loading import load_pipeline
from gems.models.generators.diffusers.presets import find_recipe
from gems.models.generators.diffusers.prompt_encoder import PromptEncoder, join_embeddings
from tests.support import tiny_pipelines
from tests.support.diffusers_generators import ask, drawing, pixels

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

# Of the scheduler that Stable Diffusion XL comes with.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)  # With more, toy models on a busy machine take ten times as long.
    return tmp_path_factory.getbasetemp()


@pytest.fixture
def pipe(root: Path) -> Any:
    return load_pipeline(
        find_recipe(str(tiny_pipelines.saved("qwen_image", root))),
        dtype="auto",
        device="cpu",
        offload="auto",
        compiled=False,
        prompt_bytes=0,
    ).pipe


def readings(generator: DiffusersGenerator) -> list[str]:
    """A list that grows with every call of a text encoder of the loaded pipeline, by the encoder's name."""
    calls: list[str] = []
    assert generator._loaded is not None
    for name, part in generator._loaded.pipe.components.items():
        if name.startswith("text_encoder"):
            part.register_forward_hook(lambda *_, name=name: calls.append(name))
    return calls


def drawn_by_diffusers(folder: Path, request: ImageRequest) -> Any:
    """The pixels of the plain call of a pipeline, which encodes the prompts itself."""
    import diffusers

    pipe = diffusers.DiffusionPipeline.from_pretrained(str(folder))
    pipe.set_progress_bar_config(disable=True)
    recipe = find_recipe(str(folder))
    arguments: dict[str, Any] = {recipe.guidance_argument: request.guidance} if recipe.guidance_argument else {}
    # Flux.2 has no such argument: there, it is always the empty one.
    if recipe.heeds_negative(request.guidance) and recipe.pipeline != "Flux2KleinPipeline":
        arguments["negative_prompt"] = request.negative_prompt
    image = pipe(
        prompt=request.prompt,
        width=request.width,
        height=request.height,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(request.seed),
        output_type="np",
        **arguments,
    ).images[0]
    return (image * 255).round().astype(int)


@pytest.mark.parametrize("name", tiny_pipelines.BUILDERS)
async def test_the_pixels_are_those_of_diffusers_own_call(name: str, root: Path) -> None:
    folder = tiny_pipelines.saved(name, root)
    negative = "" if name.startswith("flux2") else "yellow, a cat"
    request = ask("a red cube on a table", guidance=3.0, negative_prompt=negative)
    async with drawing(folder) as generator:
        image = await generator.generate(request)
        other = await generator.generate(ask("three blue balls", guidance=3.0, negative_prompt=negative))
    assert np.abs(pixels(image) - drawn_by_diffusers(folder, request)).max() <= 1
    assert np.abs(pixels(image) - pixels(other)).max() > 2


@pytest.mark.parametrize("name", tiny_pipelines.BUILDERS)
async def test_remembered_prompts_give_the_same_pixels(name: str, root: Path) -> None:
    requests = [ask("a red cube", seed=0, guidance=3.0), ask("two balls", seed=1, guidance=3.0)]
    async with drawing(tiny_pipelines.saved(name, root)) as generator:
        remembered = [(await generator.generate(request)).data for request in requests]
        calls = readings(generator)
        again = [(await generator.generate(request)).data for request in requests]
        assert calls == []
    async with drawing(tiny_pipelines.saved(name, root), prompt_cache_mb=0) as generator:
        anew = [(await generator.generate(request)).data for request in requests]
    assert remembered == again == anew


async def test_each_text_is_encoded_once(root: Path) -> None:
    async with drawing(tiny_pipelines.saved("z_image", root), guidance=2.0) as generator:
        await generator.generate(ask("first"))
        calls = readings(generator)
        for prompt, negative, expected in [
            ("first", "", 0),
            ("second", "", 1),
            ("second", "blurry", 1),
            ("blurry", "second", 0),
            ("first", "blurry", 0),
        ]:
            calls.clear()
            await generator.generate(ask(prompt, negative_prompt=negative))
            assert len(calls) == expected, (prompt, negative)


async def test_a_negative_prompt_that_is_not_heeded_is_not_encoded(root: Path) -> None:
    async with drawing(tiny_pipelines.saved("z_image", root), guidance=0.0) as generator:
        await generator.generate(ask("first"))
        calls = readings(generator)
        await generator.generate(ask("first", negative_prompt="blurry"))
        assert calls == []


async def test_without_a_cache_each_image_encodes_anew(root: Path) -> None:
    async with drawing(tiny_pipelines.saved("z_image", root), prompt_cache_mb=0) as generator:
        await generator.generate(ask())
        calls = readings(generator)
        await generator.generate(ask())
        assert calls == ["text_encoder"]


def test_the_oldest_text_goes_first(pipe: Any) -> None:
    encoder = PromptEncoder(pipe, ("prompt_embeds", "prompt_embeds_mask"), max_bytes=10**6, max_entries=2)
    calls: list[int] = []
    pipe.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    for text in ("a", "b", "a", "c", "a"):
        encoder.encode(text, None)
    assert len(calls) == 3
    encoder.encode("b", None)
    assert len(calls) == 4


def test_no_more_bytes_are_kept_than_allowed(pipe: Any) -> None:
    names = ("prompt_embeds", "prompt_embeds_mask")
    one = PromptEncoder(pipe, names, max_bytes=10**6)
    one.encode("0123456789", None)
    encoder = PromptEncoder(pipe, names, max_bytes=2 * one.kept_bytes)
    kept = []
    for number in range(5):
        encoder.encode(f"{number}123456789", None)
        kept.append(encoder.kept_bytes // one.kept_bytes)
    assert kept == [1, 2, 2, 2, 2]
    encoder.encode("far too long for the little room there is " * 20, None)
    assert encoder.kept_bytes == 2 * one.kept_bytes


def test_prompts_of_different_lengths_are_padded_behind_a_mask(pipe: Any) -> None:
    encoder = PromptEncoder(pipe, ("prompt_embeds", "prompt_embeds_mask"), max_bytes=0)
    short, long = encoder.encode("a cat", None), encoder.encode("a cat and a dog", None)
    together = join_embeddings([short, long], "cpu")
    length = short["prompt_embeds"].shape[1]
    assert together["prompt_embeds"].shape == (2, length + len(" and a dog"), 16)
    assert together["prompt_embeds_mask"].sum(dim=1).tolist() == [length, length + len(" and a dog")]
    assert torch.equal(together["prompt_embeds"][:1, :length], short["prompt_embeds"])
    assert not together["prompt_embeds"][0, length:].any()
