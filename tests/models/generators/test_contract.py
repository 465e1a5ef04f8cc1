"""What every image generator must do, whatever it draws with."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from gems.errors import EditingUnsupportedError, OptionError, SizeError, UnalignedEditError
from gems.generation import GeneratedImage, ImageRequest
from gems.models.base import ImageGenerator
from gems.models.images import encode_png
from tests.support import comfyui_workflows
from tests.support.a1111_server import serving_a1111
from tests.support.comfyui_server import serving_comfyui
from tests.support.stub import StubServer
from tests.support.stub.models import flat_picture, inpainted_picture


@dataclass(frozen=True)
class Subject:
    """A generator under test and how many requests reached what draws for it, where that can be counted."""

    generator: ImageGenerator
    requests: Callable[[], int]
    side: int
    """A side in pixels that it draws quickly."""
    only_edits: bool = False
    """Whether it draws nothing without a source."""

    def request(self, prompt: str = "three red circles", seed: int = 7, **more: Any) -> ImageRequest:
        size = {"width": self.side, "height": self.side}
        request = ImageRequest(**{"prompt": prompt, "seed": seed, "steps": 2, **size, **more})
        if self.only_edits and request.source is None:
            return replace(request, source=flat_picture(replace(request, prompt="source", seed=1, negative_prompt="")))
        return request

    def edit(self, **more: Any) -> ImageRequest:
        """Return a request to edit a picture that has something to recognize all over it."""
        picture = Image.effect_mandelbrot((self.side, self.side), (-2.0, -1.5, 1.0, 1.5), 100).convert("RGB")
        return self.request("a blue square", source=encode_png(picture), **more)


def _uncounted() -> int:
    return 0


def _blocks(_stack: ExitStack, _factory: pytest.TempPathFactory) -> Subject:
    from gems.models.blocks.generator import BlocksGenerator

    return Subject(BlocksGenerator(), _uncounted, 512)


def _blocks_poor(_stack: ExitStack, _factory: pytest.TempPathFactory) -> Subject:
    from gems.models.blocks.generator import BlocksGenerator

    return Subject(BlocksGenerator("poor"), _uncounted, 512)


def _openai(stack: ExitStack, _factory: pytest.TempPathFactory) -> Subject:
    from gems.models.generators.openai import OpenAIImagesGenerator

    server = stack.enter_context(StubServer(images=inpainted_picture))
    return Subject(OpenAIImagesGenerator("stub", server.base_url), lambda: len(server.requests), 64)


def _http(stack: ExitStack, _factory: pytest.TempPathFactory) -> Subject:
    from gems.models.generators.http import HTTPGenerator

    server = stack.enter_context(StubServer(images=flat_picture))
    return Subject(HTTPGenerator(server.generate_url), lambda: len(server.requests), 64)


def _openai_chat(stack: ExitStack, _factory: pytest.TempPathFactory) -> Subject:
    from gems.models.generators.openai_chat import OpenAIChatGenerator

    server = stack.enter_context(StubServer(images=flat_picture))
    return Subject(OpenAIChatGenerator("stub", server.base_url), lambda: len(server.requests), 64)


def _a1111(stack: ExitStack, _factory: pytest.TempPathFactory) -> Subject:
    from gems.models.generators.a1111 import A1111Generator

    server = stack.enter_context(serving_a1111())
    return Subject(A1111Generator(server.url), server.drawings, 64)


def _comfyui(stack: ExitStack, factory: pytest.TempPathFactory, workflow: str = "with_references") -> Subject:
    from gems.models.generators.comfyui.generator import ComfyUIGenerator

    server = stack.enter_context(serving_comfyui())
    nodes = getattr(comfyui_workflows, workflow)()
    generator = ComfyUIGenerator(comfyui_workflows.save(factory.mktemp("workflow"), nodes), server.url)
    return Subject(generator, lambda: len(server.requests), 64, only_edits=workflow.startswith("inpainting"))


def _comfyui_inpainting(stack: ExitStack, factory: pytest.TempPathFactory) -> Subject:
    return _comfyui(stack, factory, "inpainting")


_TINY: list[Path] = []


def _diffusers(_stack: ExitStack, factory: pytest.TempPathFactory) -> Subject:
    pytest.importorskip("diffusers", reason="the extra `diffusers` is not installed")
    import torch

    from gems.models.generators.diffusers.generator import DiffusersGenerator
    from tests.support import tiny_pipelines

    torch.set_num_threads(1)
    if not _TINY:
        _TINY.append(factory.mktemp("contract") / "z")
        tiny_pipelines.faithful_z_image().save_pretrained(_TINY[0])
    return Subject(DiffusersGenerator(str(_TINY[0]), device="cpu"), _uncounted, 128)


_MAKERS = {
    "blocks": _blocks,
    "blocks-poor": _blocks_poor,
    "openai": _openai,
    "http": _http,
    "openai-chat": _openai_chat,
    "a1111": _a1111,
    "comfyui": _comfyui,
    "comfyui-inpainting": _comfyui_inpainting,
    "diffusers": _diffusers,
}


@pytest.fixture(params=_MAKERS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    with ExitStack() as stack:
        yield _MAKERS[request.param](stack, tmp_path_factory)


@pytest.fixture
async def subject(made: Subject) -> AsyncIterator[Subject]:
    yield made
    await made.generator.aclose()


def pixels(image: GeneratedImage) -> bytes:
    with Image.open(io.BytesIO(image.data)) as picture:
        return picture.convert("RGB").tobytes()


async def test_is_an_image_generator(subject: Subject) -> None:
    assert isinstance(subject.generator, ImageGenerator)
    subject.generator.capabilities.check_size(subject.side, subject.side)


async def test_draws_a_png_of_the_size_asked_for(subject: Subject) -> None:
    asked = subject.request(width=subject.side * 2)
    image = await subject.generator.generate(asked)
    with Image.open(io.BytesIO(image.data)) as picture:
        picture.verify()
        assert picture.format == "PNG"
        assert picture.size == (asked.width, asked.height) == (image.width, image.height)
    assert image.model == subject.generator.capabilities.model
    assert image.seconds >= 0


async def test_parameters_are_json(subject: Subject) -> None:
    image = await subject.generator.generate(subject.request(negative_prompt="blur"))
    assert json.loads(json.dumps(image.parameters)) == image.parameters


async def test_seed_decides_the_pixels(subject: Subject) -> None:
    assert subject.generator.capabilities.seeds
    first, again, other = [await subject.generator.generate(subject.request(seed=seed)) for seed in (7, 7, 2**32 - 1)]
    assert (first.seed, again.seed, other.seed) == (7, 7, 2**32 - 1)
    assert pixels(first) == pixels(again)
    assert pixels(first) != pixels(other)


async def test_prompt_decides_the_pixels(subject: Subject) -> None:
    one = await subject.generator.generate(subject.request("three red circles"))
    other = await subject.generator.generate(subject.request("one blue square"))
    assert pixels(one) != pixels(other)


async def test_impossible_size_is_refused_before_any_request(subject: Subject) -> None:
    for size in ({"width": 0}, {"height": 100_000}):
        with pytest.raises(SizeError) as caught:
            await subject.generator.generate(replace(subject.request(), **size))
        assert caught.value.hint
    assert subject.requests() == 0


async def test_concurrent_requests_are_all_answered(subject: Subject) -> None:
    asked = [subject.request(seed=seed) for seed in range(8)]
    images = await asyncio.gather(*(subject.generator.generate(request) for request in asked))
    assert [image.seed for image in images] == list(range(8))
    assert len({pixels(image) for image in images}) == 8


async def test_cancelled_call_leaves_it_usable(subject: Subject) -> None:
    waiting = [asyncio.create_task(subject.generator.generate(subject.request(seed=s))) for s in range(6)]
    await asyncio.sleep(0.01)
    for task in waiting[::2]:
        task.cancel()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(image, GeneratedImage) for image in ended[1::2])
    assert all(isinstance(image, GeneratedImage | asyncio.CancelledError) for image in ended[::2])
    image = await subject.generator.generate(subject.request(seed=9))
    assert image.seed == 9


async def test_closing_twice_is_harmless(subject: Subject) -> None:
    await subject.generator.generate(subject.request())
    await subject.generator.aclose()
    await subject.generator.aclose()


async def test_closing_unused_is_harmless(subject: Subject) -> None:
    await subject.generator.aclose()


async def test_says_truly_whether_it_edits(subject: Subject) -> None:
    source = flat_picture(subject.request("source"))
    asked = subject.request(source=source)
    if subject.generator.capabilities.editing:
        image = await subject.generator.generate(asked)
        assert (image.width, image.height) == (asked.width, asked.height)
    else:
        with pytest.raises(EditingUnsupportedError):
            await subject.generator.generate(asked)
        assert subject.requests() == 0


async def test_negative_prompt_is_heeded_or_not_as_said(subject: Subject) -> None:
    asked = subject.request(guidance=3.0) if subject.generator.capabilities.negative_prompts else None
    if asked is None:
        asked = subject.request()
        expected = True
    else:
        expected = False
    without = await subject.generator.generate(asked)
    with_it = await subject.generator.generate(replace(asked, negative_prompt="blue squares"))
    assert (pixels(without) == pixels(with_it)) is expected


def middle(side: int) -> Image.Image:
    """Return a mask that selects the middle ninth."""
    mask = Image.new("L", (side, side), 0)
    mask.paste(255, (side // 3, side // 3, side * 2 // 3, side * 2 // 3))
    return mask


async def test_what_is_outside_a_mask_stays_bit_for_bit(subject: Subject) -> None:
    mask = middle(subject.side)
    asked = subject.edit(mask=encode_png(mask))
    able = subject.generator.capabilities
    if not able.editing:
        with pytest.raises(EditingUnsupportedError):
            await subject.generator.generate(asked)
        assert subject.requests() == 0
        return
    try:
        image = await subject.generator.generate(asked)
    except UnalignedEditError:
        # What draws the whole picture anew is refused, if it does not keep to what is outside.
        assert not able.inpainting
        return
    assert asked.source is not None
    before = Image.open(io.BytesIO(asked.source)).convert("RGB")
    after = Image.open(io.BytesIO(image.data)).convert("RGB")
    assert after.size == before.size
    changed = ImageChops.difference(before, after).convert("L").point(lambda level: 255 if level else 0)
    assert changed.getbbox() is not None
    assert ImageChops.subtract(changed, mask).getbbox() is None


async def test_strength_is_heeded_or_refused_as_said(subject: Subject) -> None:
    little, much = subject.edit(strength=0.25), subject.edit(strength=1.0)
    if not subject.generator.capabilities.strengths:
        with pytest.raises((OptionError, EditingUnsupportedError)):
            await subject.generator.generate(little)
        assert subject.requests() == 0
        return
    images = [await subject.generator.generate(asked) for asked in (little, much)]
    assert little.source is not None
    source = Image.open(io.BytesIO(little.source)).convert("RGB").tobytes()
    changes = [sum(abs(a - b) for a, b in zip(pixels(image), source, strict=True)) for image in images]
    assert changes[0] < changes[1]


async def test_references_are_heeded_up_to_the_number_said(subject: Subject) -> None:
    most = subject.generator.capabilities.references
    red, blue = (flat_picture(subject.request(colour)) for colour in ("red", "blue"))
    with pytest.raises(EditingUnsupportedError):
        await subject.generator.generate(subject.request(references=(red,) * (most + 1)))
    assert subject.requests() == 0
    if most:
        images = [await subject.generator.generate(subject.edit(references=(one,))) for one in (red, blue)]
        assert pixels(images[0]) != pixels(images[1])


async def test_steps_that_are_reported_count_up(subject: Subject) -> None:
    heard: list[tuple[int, int]] = []
    await subject.generator.generate(subject.request(on_progress=lambda done, total: heard.append((done, total))))
    assert all(0 < done <= total for done, total in heard)
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)
