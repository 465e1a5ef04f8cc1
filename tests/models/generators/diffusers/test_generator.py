"""Images, options and negative prompts, with real pipelines of toy size."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gems.errors import ConfigurationError, MissingExtraError, OptionError, PromptError, SizeError
from gems.generation import ImageRequest
from gems.models.base import ImageGenerator
from gems.models.generators.diffusers.generator import DiffusersGenerator
from tests.support import tiny_pipelines
from tests.support.diffusers_generators import PATIENCE_S, ask, drawing, pixels, wrap_call

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

# Of the scheduler that Stable Diffusion XL comes with.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)  # With more, toy models on a busy machine take ten times as long.
    return tmp_path_factory.getbasetemp()


@pytest.fixture
def z_image(root: Path) -> Path:
    return tiny_pipelines.saved("z_image", root)


@pytest.fixture
def qwen_image(root: Path) -> Path:
    return tiny_pipelines.saved("qwen_image", root)


@pytest.mark.parametrize("name", tiny_pipelines.BUILDERS)
async def test_the_image_follows_from_seed_prompt_and_size(name: str, root: Path) -> None:
    async with drawing(tiny_pipelines.saved(name, root)) as generator:
        image = await generator.generate(ask())
        assert (await generator.generate(ask())).data == image.data
        assert (await generator.generate(ask(seed=2))).data != image.data
        wide = await generator.generate(ask(width=96, height=48))
    assert Image.open(io.BytesIO(wide.data)).size == (wide.width, wide.height) == (96, 48)


async def test_the_prompt_matters(z_image: Path) -> None:
    async with drawing(z_image) as generator:
        image = await generator.generate(ask("a red cube"))
        other = await generator.generate(ask("three blue balls on a table"))
    assert np.abs(pixels(image) - pixels(other)).max() > 5


async def test_the_result_says_what_made_it(z_image: Path) -> None:
    async with drawing(z_image, price_usd=0.25) as generator:
        assert isinstance(generator, ImageGenerator)
        image = await generator.generate(ask(seed=7, steps=3))
    assert (image.model, image.seed) == (f"diffusers:{z_image}", 7) == (generator.capabilities.model, 7)
    assert generator.capabilities.price_usd == 0.25
    assert image.seconds > 0
    told = image.parameters
    assert {key: told[key] for key in ("steps", "guidance", "dtype", "device", "offload", "batch")} == {
        "steps": 3,
        "guidance": 0.0,
        "dtype": "float32",
        "device": "cpu",
        "offload": "none",
        "batch": 1,
    }
    assert (told["pipeline"], told["scheduler"]) == ("ZImagePipeline", "FlowMatchEulerDiscreteScheduler")
    assert told["diffusers"][0].isdigit()


@pytest.mark.parametrize(
    ("name", "most"),
    [("stable_diffusion", 75), ("stable_diffusion_xl", 75), ("stable_diffusion_3", 256), ("z_image", 512)],
)
async def test_a_prompt_that_is_too_long_is_told(name: str, most: int, root: Path) -> None:
    async with drawing(tiny_pipelines.saved(name, root), max_batch=1) as generator:
        assert generator.capabilities.prompt_tokens == most
        short = await generator.generate(ask("x " * 20, width=16, height=16))
        long = await generator.generate(ask("x " * 600, width=16, height=16))
        assert generator.capabilities.prompt_tokens == most
    assert short.warnings == ()
    (warning,) = long.warnings
    assert f"reads only the first {most} and ignored the rest" in warning


async def test_half_precision(z_image: Path) -> None:
    async with drawing(z_image, dtype="bfloat16") as generator:
        image = await generator.generate(ask())
    assert image.parameters["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (ask(width=65), SizeError),
        (ask(width=0), SizeError),
        (ask(steps=0), OptionError),
        (ask(steps=1001), OptionError),
        (ask(guidance=-1.0), OptionError),
        (ask(guidance=float("nan")), OptionError),
        (ask(seed=-1), OptionError),
        (ask(" \n"), PromptError),
        (ask(source=b"png"), OptionError),
    ],
)
async def test_a_request_that_cannot_be_drawn_is_refused_at_once(
    z_image: Path, request_: ImageRequest, error: type[Exception]
) -> None:
    async with drawing(z_image) as generator:
        with pytest.raises(error):
            await generator.generate(request_)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"steps": 0}, OptionError),
        ({"guidance": -0.1}, OptionError),
        ({"max_batch": 0}, OptionError),
        ({"prompt_cache_mb": -1}, OptionError),
        ({"dtype": "int8"}, ConfigurationError),
        ({"offload": "disk"}, ConfigurationError),
    ],
)
def test_bad_options_are_refused_at_construction(
    z_image: Path, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        DiffusersGenerator(str(z_image), **options)


async def test_a_single_step_is_too_few_for_qwen_image(qwen_image: Path) -> None:
    async with drawing(qwen_image) as generator:
        with pytest.raises(OptionError, match="Use 2 to 1000"):
            await generator.generate(ask(steps=1))


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
async def test_a_device_that_is_not_there(z_image: Path, device: str) -> None:
    async with drawing(z_image, device=device) as generator:
        with pytest.raises(ConfigurationError, match=device):
            await generator.generate(ask())


async def test_z_image_heeds_a_negative_prompt_only_with_guidance(z_image: Path) -> None:
    async with drawing(z_image) as generator:
        assert not generator.capabilities.negative_prompts
        plain = await generator.generate(ask())
        ignored = await generator.generate(ask(negative_prompt="blurry"))
        heeded = await generator.generate(ask(negative_prompt="blurry", guidance=3.0))
        other = await generator.generate(ask(negative_prompt="yellow, a cat", guidance=3.0))
    assert ignored.data == plain.data
    assert heeded.data != other.data
    assert [each.parameters["negative_prompt_ignored"] for each in (ignored, heeded)] == [True, False]
    assert DiffusersGenerator(str(z_image), guidance=3.0).capabilities.negative_prompts


async def test_qwen_image_is_guided_against_a_blank_prompt(qwen_image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import QwenImagePipeline

    calls: list[tuple[float, bool]] = []
    read: list[str] = []

    def record(original: Any, pipe: Any, **arguments: Any) -> Any:
        calls.append((arguments["true_cfg_scale"], "negative_prompt_embeds" in arguments))
        return original(pipe, **arguments)

    def encode(pipe: Any, prompt: list[str], *arguments: Any) -> Any:
        read.extend(prompt)
        return original(pipe, prompt, *arguments)

    wrap_call(monkeypatch, "QwenImagePipeline", record)
    original = QwenImagePipeline._get_qwen_prompt_embeds
    monkeypatch.setattr(QwenImagePipeline, "_get_qwen_prompt_embeds", encode)
    async with drawing(qwen_image) as generator:
        assert generator.capabilities.negative_prompts
        await generator.generate(ask())
        await generator.generate(ask(negative_prompt="blurry"))
        await generator.generate(ask(negative_prompt="blurry", guidance=1.0))
    assert calls == [(4.0, True), (4.0, True), (1.0, False)]
    assert read == ["a red cube", " ", "blurry"]


async def test_the_papers_call_of_qwen_image_is_not_guided(qwen_image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gems.models.generators.diffusers.presets import PRESETS

    tiny = PRESETS["qwen-image-paper"] | {"source": str(qwen_image), "sizes": None}
    monkeypatch.setitem(PRESETS, "qwen-image-paper", tiny)
    async with drawing("qwen-image-paper") as generator:
        assert not generator.capabilities.negative_prompts
        image = await generator.generate(ask(negative_prompt="blurry"))
    async with drawing(qwen_image) as generator:
        unguided = await generator.generate(ask(guidance=1.0))
        guided = await generator.generate(ask())
    assert image.model == "diffusers:qwen-image-paper"
    assert image.parameters["guidance"] == 4.0
    assert image.parameters["negative_prompt_ignored"]
    assert image.data == unguided.data != guided.data


async def test_closing_one_that_was_never_used(z_image: Path) -> None:
    await asyncio.wait_for(DiffusersGenerator(str(z_image)).aclose(), PATIENCE_S)


def test_the_generator_serves_one_event_loop_after_another(z_image: Path) -> None:
    generator = DiffusersGenerator(str(z_image), steps=2, device="cpu")
    images = [asyncio.run(generator.generate(ask())) for _ in range(2)]
    asyncio.run(generator.aclose())
    assert images[0].data == images[1].data


@pytest.mark.parametrize("package", ["torch", "diffusers"])
def test_without_the_extra_the_error_names_it(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))
    with pytest.raises(MissingExtraError, match=r"gems-agent\[diffusers\]"):
        DiffusersGenerator("z-image-turbo")


def test_making_one_imports_no_heavy_library() -> None:
    code = (
        "import sys\n"
        "from gems.models.generators.diffusers.generator import DiffusersGenerator\n"
        "print(DiffusersGenerator('z-image-turbo').capabilities.default_size)\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "(1024, 1024)"), done.stderr
