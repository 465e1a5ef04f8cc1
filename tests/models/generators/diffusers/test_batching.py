"""Batches, cancelling, closing, and faults that must stay with one request, with pipelines of toy size."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gems.errors import InvalidImageError, OutOfMemoryError, ProviderError, RefusedError
from gems.models.generators.diffusers import generator as diffusers_generator
from gems.models.generators.diffusers.generator import DiffusersGenerator
from gems.models.generators.diffusers.presets import KNOWN, Recipe
from tests.support import tiny_pipelines
from tests.support.diffusers_generators import PATIENCE_S, Gate, ask, behind, drawing, pixels, wrap_call

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
def turns(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The inference steps that were really taken, by their index, of all pipelines."""
    taken: list[int] = []

    def count(original: Any, pipe: Any, **arguments: Any) -> Any:
        told = arguments["callback_on_step_end"]

        def after_step(pipe: Any, index: int, *others: Any) -> Any:
            taken.append(index)
            return told(pipe, index, *others)

        return original(pipe, **{**arguments, "callback_on_step_end": after_step})

    for name in KNOWN:
        wrap_call(monkeypatch, name, count)
    return taken


def seeds(arguments: dict[str, Any]) -> list[int]:
    """The seeds of a batch, from the arguments of the pipeline's call."""
    return [source.initial_seed() for source in arguments["generator"]]


@pytest.mark.parametrize("name", tiny_pipelines.BUILDERS)
async def test_requests_that_agree_are_drawn_together(name: str, root: Path) -> None:
    requests = [ask(f"{'very ' * n}{n} red cubes", seed=n) for n in range(3)]
    async with drawing(tiny_pipelines.saved(name, root)) as generator:
        together = await behind(generator, *requests)
        alone = [await generator.generate(request) for request in requests]
    for one, other in zip(together, alone, strict=True):
        assert (one.parameters["batch"], other.parameters["batch"]) == (3, 1)
        assert np.abs(pixels(one) - pixels(other)).max() <= 1


async def test_candidates_of_a_round_are_drawn_together_without_a_queue(z_image: Path) -> None:
    async with drawing(z_image) as generator:
        await generator.generate(ask())
        images = await asyncio.gather(*(generator.generate(ask(seed=n)) for n in range(4)))
    assert max(image.parameters["batch"] for image in images) > 1


async def test_only_requests_that_agree_share_a_batch(z_image: Path) -> None:
    requests = [
        ask(seed=1),
        ask(seed=2, width=80),
        ask(seed=3, steps=3),
        ask(seed=4),
        ask(seed=5, guidance=2.0),
        ask(seed=6),
        ask(seed=7),
    ]
    async with drawing(z_image, max_batch=3) as generator:
        images = await behind(generator, *requests)
        for request, image in zip(requests, images, strict=True):
            assert np.abs(pixels(image) - pixels(await generator.generate(request))).max() <= 1
    assert [image.parameters["batch"] for image in images] == [3, 1, 1, 3, 1, 3, 1]


async def test_on_a_cpu_images_are_drawn_one_by_one_unless_asked_for(z_image: Path) -> None:
    async with drawing(z_image, max_batch=None) as generator:
        images = await asyncio.gather(*(generator.generate(ask(seed=n)) for n in range(3)))
        assert generator.capabilities.max_batch == 1
    assert [image.parameters["batch"] for image in images] == [1, 1, 1]


async def test_requests_that_want_to_be_alone_are(z_image: Path) -> None:
    requests = [ask(seed=1), ask(seed=2, alone=True), ask(seed=3), ask(seed=4, alone=True)]
    async with drawing(z_image) as generator:
        images = await behind(generator, *requests)
    assert [image.parameters["batch"] for image in images] == [2, 1, 2, 1]


async def test_a_pipeline_of_which_little_is_known_draws_one_image_at_a_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_pipelines.saved("stable_diffusion", root)
    requests = [ask(seed=n, guidance=7.5, negative_prompt="x") for n in range(3)]
    async with drawing(folder) as generator:
        known = await generator.generate(requests[0])
    monkeypatch.delitem(KNOWN, "StableDiffusionPipeline")
    async with drawing(folder) as generator:
        assert generator.capabilities.max_batch == 1
        images = await behind(generator, *requests)
    assert [image.parameters["batch"] for image in images] == [1, 1, 1]
    assert np.abs(pixels(images[0]) - pixels(known)).max() <= 1


async def test_the_first_batch_of_a_pipeline_that_was_not_known_before_loading(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As with a name on the hub that is not in the cache.
    folder = tiny_pipelines.saved("stable_diffusion", root)
    monkeypatch.delitem(KNOWN, "StableDiffusionPipeline")
    monkeypatch.setattr(diffusers_generator, "find_recipe", lambda model: Recipe(source=model))
    async with drawing(folder) as generator:
        assert generator.capabilities.max_batch == 4
        images = await asyncio.gather(*(generator.generate(ask(seed=n)) for n in range(3)))
        assert generator.capabilities.max_batch == 1
    assert [image.parameters["batch"] for image in images] == [1, 1, 1]


async def test_progress_is_told_step_by_step(z_image: Path) -> None:
    seen: list[tuple[int, int]] = []
    async with drawing(z_image) as generator:
        await generator.generate(ask(steps=4, on_progress=lambda *at: seen.append(at)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


async def test_a_listener_that_raises_fails_its_own_request_only(z_image: Path) -> None:
    def listener(done: int, total: int) -> None:
        raise LookupError("the listener is broken")

    async with drawing(z_image) as generator:
        broken, whole = await behind(generator, ask(on_progress=listener), ask(seed=2))
    assert isinstance(broken, LookupError)
    assert whole.parameters["batch"] == 2


@pytest.mark.parametrize("name", tiny_pipelines.BUILDERS)
async def test_a_cancelled_call_stops_drawing_and_the_next_is_clean(name: str, root: Path, turns: list[int]) -> None:
    async with drawing(tiny_pipelines.saved(name, root)) as generator:
        expected = await generator.generate(ask())
        gate = Gate()
        task = asyncio.create_task(generator.generate(ask(steps=50, on_progress=gate)))
        await gate.passed_by(task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.open()
        assert (await generator.generate(ask())).data == expected.data
    assert turns == [0, 1, 0, 0, 1]


async def test_drawing_goes_on_for_those_who_still_wait(z_image: Path, turns: list[int]) -> None:
    async with drawing(z_image) as generator:
        gate, follower = Gate(), Gate()
        first = asyncio.create_task(generator.generate(ask(on_progress=gate)))
        await gate.reached.wait()
        leaver = asyncio.create_task(generator.generate(ask(seed=2, steps=5, on_progress=follower)))
        stayer = asyncio.create_task(generator.generate(ask(seed=3, steps=5)))
        await asyncio.sleep(0)
        gate.open()
        await follower.reached.wait()
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        follower.open()
        image = await stayer
        await first
    assert image.parameters["batch"] == 2
    assert turns == [0, 1, 0, 1, 2, 3, 4]
    assert follower.seen == [(1, 5)]


async def test_a_call_cancelled_while_it_waits_is_never_drawn(z_image: Path) -> None:
    seen: list[int] = []
    async with drawing(z_image) as generator:
        gate = Gate()
        first = asyncio.create_task(generator.generate(ask(on_progress=gate)))
        await gate.reached.wait()
        waiting = asyncio.create_task(generator.generate(ask(on_progress=lambda done, _: seen.append(done))))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.open()
        await first
        await generator.generate(ask(seed=2))
    assert seen == []


@pytest.mark.parametrize("name", tiny_pipelines.BUILDERS)
async def test_negative_prompts_of_one_batch_may_differ(name: str, root: Path) -> None:
    requests = [ask(seed=1), ask(seed=1, negative_prompt="yellow, a cat"), ask(seed=2, negative_prompt="x")]
    async with drawing(tiny_pipelines.saved(name, root), guidance=3.0) as generator:
        together = await behind(generator, *requests)
        for request, image in zip(requests, together, strict=True):
            alone = await generator.generate(request)
            assert np.abs(pixels(image) - pixels(alone)).max() <= 1
    assert {image.parameters["batch"] for image in together} == {3}


async def test_a_batch_that_does_not_fit_is_drawn_in_smaller_ones(
    z_image: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sizes: list[int] = []

    def limited(original: Any, pipe: Any, **arguments: Any) -> Any:
        sizes.append(len(arguments["generator"]))
        if sizes[-1] > 1 and arguments["width"] > 32:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")
        return original(pipe, **arguments)

    wrap_call(monkeypatch, "ZImagePipeline", limited)
    async with drawing(z_image) as generator:
        images = await behind(generator, *(ask(seed=n) for n in range(4)))
        assert [image.parameters["batch"] for image in images] == [1, 1, 1, 1]
        sizes.clear()
        await behind(generator, *(ask(seed=n) for n in range(4)))
        assert sizes == [1, 1, 1, 1, 1]
        small = await behind(generator, *(ask(seed=n, width=32) for n in range(4)))
    assert {image.parameters["batch"] for image in small} == {4}
    assert "batch of 4 images" in caplog.text
    assert "batch of 2 images" in caplog.text


async def test_memory_that_does_not_suffice_for_one_image(z_image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(original: Any, pipe: Any, **arguments: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")

    wrap_call(monkeypatch, "ZImagePipeline", full)
    async with drawing(z_image) as generator:
        with pytest.raises(OutOfMemoryError, match="20 GiB"):
            await generator.generate(ask())


async def test_a_request_that_breaks_the_pipeline_does_not_fail_its_neighbours(
    z_image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touchy(original: Any, pipe: Any, **arguments: Any) -> Any:
        if 13 in seeds(arguments):
            raise ValueError("this image cannot be drawn; token=hf_abcdefghijkl")
        return original(pipe, **arguments)

    wrap_call(monkeypatch, "ZImagePipeline", touchy)
    async with drawing(z_image) as generator:
        one, two, three = await behind(generator, ask(seed=1), ask(seed=13), ask(seed=3))
    assert type(two) is ProviderError
    assert "cannot be drawn" in str(two)
    assert "hf_abc" not in str(two)
    assert (one.seed, three.seed) == (1, 3)


@pytest.mark.parametrize("fault", [{"prompt": "poison"}, {"negative_prompt": "poison"}])
async def test_a_prompt_that_cannot_be_encoded_fails_alone(
    z_image: Path, monkeypatch: pytest.MonkeyPatch, fault: dict[str, str]
) -> None:
    from diffusers import ZImagePipeline

    original = ZImagePipeline.encode_prompt

    def touchy(pipe: Any, prompt: list[str], **arguments: Any) -> Any:
        if prompt == ["poison"]:
            raise ValueError("this prompt cannot be encoded; token=hf_abcdefghijkl")
        return original(pipe, prompt, **arguments)

    monkeypatch.setattr(ZImagePipeline, "encode_prompt", touchy)
    async with drawing(z_image, guidance=2.0) as generator:
        one, two, three = await behind(generator, ask(seed=1), ask(**fault), ask(seed=3))
        assert (await generator.generate(ask(seed=3))).seed == 3
        with pytest.raises(ProviderError, match="cannot be encoded"):
            await generator.generate(ask(**fault))
    assert type(two) is ProviderError
    assert "hf_abc" not in str(two)
    assert (one.parameters["batch"], three.parameters["batch"]) == (2, 2)


async def test_an_image_that_the_safety_checker_blanks_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(original: Any, pipe: Any, **arguments: Any) -> Any:
        bad = [seed == 13 for seed in seeds(arguments)]
        output = original(pipe, **arguments)
        output.nsfw_content_detected = bad
        return output

    wrap_call(monkeypatch, "StableDiffusionPipeline", check)
    async with drawing(tiny_pipelines.saved("stable_diffusion", root)) as generator:
        good, bad = await behind(generator, ask(seed=1), ask(seed=13))
    assert good.parameters["batch"] == 2
    assert isinstance(bad, RefusedError)


async def test_one_black_image_of_a_batch_fails_alone(z_image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def darken(original: Any, pipe: Any, **arguments: Any) -> Any:
        nights = [seed == 13 for seed in seeds(arguments)]
        output = original(pipe, **arguments)
        output.images[nights] = 0
        return output

    wrap_call(monkeypatch, "ZImagePipeline", darken)
    async with drawing(z_image) as generator:
        day, night = await behind(generator, ask(seed=1), ask(seed=13))
    assert day.parameters["batch"] == 2
    assert isinstance(night, InvalidImageError)


async def test_closing_fails_what_waits_and_ends_the_thread(z_image: Path, turns: list[int]) -> None:
    generator = DiffusersGenerator(str(z_image), device="cpu")
    gate = Gate()
    drawn = asyncio.create_task(generator.generate(ask(steps=50, on_progress=gate)))
    await gate.reached.wait()
    waiting = asyncio.create_task(generator.generate(ask()))
    await asyncio.sleep(0)
    closing = asyncio.create_task(generator.aclose())
    for task in (drawn, waiting):
        with pytest.raises(ProviderError, match="closed"):
            await asyncio.wait_for(task, PATIENCE_S)
    gate.open()
    await asyncio.wait_for(closing, PATIENCE_S)
    assert turns == [0]
    assert f"diffusers:{z_image}" not in {thread.name for thread in threading.enumerate()}
    await generator.aclose()
    with pytest.raises(ProviderError, match="closed"):
        await generator.generate(ask())
