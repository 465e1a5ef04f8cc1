"""The generator of ComfyUI workflows against a server with ComfyUI's API."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from gems.errors import (
    AuthenticationError,
    ConfigurationError,
    EditingUnsupportedError,
    GemsError,
    ModelUnavailableError,
    OutOfMemoryError,
    ProviderTimeoutError,
    RejectedRequestError,
    ServerError,
    SizeError,
    UnreachableError,
)
from gems.generation import ImageRequest
from gems.models.generators.comfyui.generator import ComfyUIGenerator
from gems.models.images import encode_png
from tests.support.comfyui_server import ComfyUIServer, serving_comfyui
from tests.support.comfyui_workflows import (
    Nodes,
    flux,
    inpainting,
    inpainting_with_mask,
    save,
    text_to_image,
    with_references,
)
from tests.support.remote_limits import with_limits
from tests.support.scripted_service import PATIENCE_S
from tests.support.stub.models import flat_picture

Make = Callable[..., ComfyUIGenerator]


def request(prompt: str = "a red circle", seed: int = 7, **more: Any) -> ImageRequest:
    return ImageRequest(**{"prompt": prompt, "seed": seed, "width": 64, "height": 72, "steps": 3, **more})


def source(colour: str = "source") -> bytes:
    return flat_picture(request(colour))


def mask() -> bytes:
    picture = Image.new("L", (64, 72), 0)
    picture.paste(255, (16, 16, 48, 48))
    return encode_png(picture)


@pytest.fixture
def server() -> Iterator[ComfyUIServer]:
    with serving_comfyui() as started:
        yield started


@pytest.fixture
async def make(server: ComfyUIServer, tmp_path: Path) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        def build(nodes: Nodes | None = None, url: str | None = None, **options: Any) -> ComfyUIGenerator:
            path = save(tmp_path, nodes or text_to_image())
            generator = ComfyUIGenerator(path, url or server.url, **with_limits(options))
            stack.push_async_callback(generator.aclose)
            return generator

        yield build


class Clock:
    """The generator's clock, which goes on only if it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("gems.models.generators.comfyui.protocol.time", clock)
    return clock


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        # The server is in another thread, which no event of a loop hears of.
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_what_is_sent_and_recorded(server: ComfyUIServer, make: Make) -> None:
    generator = make()
    assert generator.capabilities.default_size == (1024, 768)
    image = await generator.generate(request(negative_prompt="blur", guidance=5.5))
    (sent,) = server.prompts
    assert sent["3"]["inputs"]["seed"] == 7
    assert (sent["3"]["inputs"]["steps"], sent["3"]["inputs"]["cfg"]) == (3, 5.5)
    assert sent["5"]["inputs"] == {"width": 64, "height": 72, "batch_size": 1}
    assert (sent["6"]["inputs"]["text"], sent["7"]["inputs"]["text"]) == ("a red circle", "blur")
    assert image.parameters == {
        "negative_prompt": "blur",
        "steps": 3,
        "guidance": 5.5,
        "workflow": "workflow.json",
        "nodes": sent,
    }
    assert image.model.startswith("comfyui:workflow.json#")
    assert (image.seed, image.warnings) == (7, ())


async def test_the_workflows_own_values_stay_and_are_recorded(server: ComfyUIServer, make: Make) -> None:
    image = await make().generate(request(steps=None))
    assert server.prompts[0]["7"]["inputs"]["text"] == "watermark"
    assert image.parameters | {"nodes": 0, "workflow": 0} == {
        "negative_prompt": "watermark",
        "steps": 4,
        "guidance": 7.0,
        "nodes": 0,
        "workflow": 0,
    }


async def test_guider_and_noise(server: ComfyUIServer, make: Make) -> None:
    generator = make(flux())
    assert not generator.capabilities.negative_prompts
    heard: list[tuple[int, int]] = []
    image = await generator.generate(request(on_progress=lambda *steps: heard.append(steps), guidance=2.0))
    assert heard == [(1, 3), (2, 3), (3, 3)]
    sent = server.prompts[0]
    assert (sent["5"]["inputs"]["noise_seed"], sent["20"]["inputs"]["value"]) == (7, 64)
    assert (sent["3"]["inputs"]["guidance"], sent["6"]["inputs"]["steps"]) == (2.0, 3)
    assert (image.width, image.height) == (64, 72)


def test_capabilities_follow_from_the_binding(make: Make) -> None:
    assert make().capabilities.negative_prompts
    without = text_to_image()
    without["3"]["inputs"]["cfg"] = 1.0
    assert not make(without).capabilities.negative_prompts
    assert make(without, guidance=4.0).capabilities.negative_prompts
    plain, drawing, painting = (
        make(nodes).capabilities for nodes in (text_to_image(), with_references(), inpainting())
    )
    assert (plain.editing, plain.inpainting, plain.references, plain.strengths) == (False, False, 0, False)
    assert (drawing.editing, drawing.inpainting, drawing.references, drawing.strengths) == (True, False, 1, False)
    assert (painting.editing, painting.inpainting, painting.references, painting.strengths) == (True, True, 0, True)
    assert all(able.interruptible and able.seeds for able in (plain, drawing, painting))


@pytest.mark.parametrize("nodes", [inpainting, inpainting_with_mask])
async def test_a_mask_reaches_the_sampler(server: ComfyUIServer, make: Make, nodes: Callable[[], Nodes]) -> None:
    generator = make(nodes())
    image = await generator.generate(request(source=source(), mask=mask(), strength=0.5))
    assert image.parameters["strength"] == 0.5
    # What the server itself drew, before GEMS put the source's pixels back.
    (drawn,) = [data for place, data in server.files.items() if place[0] == "output"]
    before, after = (Image.open(io.BytesIO(data)).convert("RGB") for data in (source(), drawn))
    changed = ImageChops.difference(before, after).convert("L").getbbox()
    assert changed == (16, 16, 48, 48)


async def test_without_a_mask_everything_is_drawn(server: ComfyUIServer, make: Make) -> None:
    await make(inpainting()).generate(request(source=source()))
    (drawn,) = [data for place, data in server.files.items() if place[0] == "output"]
    before, after = (Image.open(io.BytesIO(data)).convert("RGB") for data in (source(), drawn))
    assert ImageChops.difference(before, after).convert("L").getbbox() == (0, 0, 64, 72)


async def test_the_same_source_is_stored_once(server: ComfyUIServer, make: Make) -> None:
    generator = make(inpainting())
    for seed in (1, 2):
        await generator.generate(request(seed=seed, source=source(), mask=mask()))
    assert len([place for place in server.files if place[1] == "gems"]) == 2


async def test_what_a_request_does_not_have_is_left_out(server: ComfyUIServer, make: Make) -> None:
    generator = make(with_references())
    for more in ({}, {"source": source()}, {"source": source(), "references": (source("other"),)}):
        await generator.generate(request(**more))
    loaders = [sum(n["class_type"] == "LoadImage" for n in sent.values()) for sent in server.prompts]
    assert loaders == [0, 1, 2]
    assert "latent" not in server.prompts[0]["31"]["inputs"]


async def test_a_workflow_that_only_edits_says_so(server: ComfyUIServer, make: Make) -> None:
    with pytest.raises(EditingUnsupportedError, match="needs an image to edit") as caught:
        await make(inpainting()).generate(request())
    assert "LoadImage (node 10)" in caught.value.hint
    assert server.prompts == []


async def test_other_outputs_are_not_executed(server: ComfyUIServer, make: Make) -> None:
    nodes = text_to_image()
    nodes["12"] = {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}}
    nodes["13"] = {"class_type": "NotInstalled", "inputs": {"images": ["8", 0]}}
    await make(nodes).generate(request())
    assert set(server.prompts[0]) == set(text_to_image())


async def test_rounded_sizes_are_told(make: Make) -> None:
    generator = make()
    with pytest.raises(SizeError, match="multiples of 8"):
        await generator.generate(request(width=60))
    image = await make(inpainting()).generate(request(width=128, height=128, source=source()))
    (warning,) = image.warnings
    assert "64x72 pixels, not of the requested 128x128" in warning


@pytest.mark.parametrize("messages", [0, 1, 4])
async def test_without_a_websocket_the_history_is_asked(
    server: ComfyUIServer, make: Make, messages: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.sockets_open = messages
    with caplog.at_level(logging.INFO):
        image = await make().generate(request())
    assert image.seed == 7
    assert "its history is asked instead" in caplog.text


async def test_servers_of_former_years(server: ComfyUIServer, make: Make) -> None:
    server.is_old = True
    generator = make()
    first = await generator.generate(request())
    # Nothing changed, so that it executes nothing, and tells no outputs until an input is another one.
    again = await generator.generate(request())
    assert again.data == first.data
    assert [("gems_run" in sent["9"]["inputs"]) for sent in server.prompts] == [False, False, True]


async def test_what_did_not_change_is_not_drawn_again(server: ComfyUIServer, make: Make) -> None:
    generator = make()
    images = [await generator.generate(request()) for _ in range(2)]
    assert images[0].data == images[1].data
    assert len([place for place in server.files if place[0] == "output"]) == 1


async def test_key_and_path(tmp_path: Path) -> None:
    with serving_comfyui(key="s3cret-key-of-the-server", prefix="/comfy") as server:
        path = save(tmp_path, text_to_image())
        generator = ComfyUIGenerator(path, f"{server.url}/", api_key=server.key)
        await generator.generate(request())
        assert server.sent
        await generator.aclose()
        stranger = ComfyUIGenerator(path, server.url, api_key="another-key-altogether")
        with pytest.raises(AuthenticationError) as caught:
            await stranger.generate(request())
        assert "another-key" not in str(caught.value)
        await stranger.aclose()


async def test_keys_in_nodes_are_not_recorded(server: ComfyUIServer, make: Make) -> None:
    nodes = text_to_image()
    nodes["8"]["inputs"]["api_key"] = "sk-1234567890"
    image = await make(nodes).generate(request())
    assert server.prompts[0]["8"]["inputs"]["api_key"] == "sk-1234567890"
    assert image.parameters["nodes"]["8"]["inputs"]["api_key"] == "[secret]"


async def test_further_fields_of_the_request(server: ComfyUIServer, make: Make) -> None:
    await make(extra_body={"extra_data": {"api_key_comfy_org": "k-123456789"}}).generate(request())
    (body,) = server.calls("/prompt")
    assert body["extra_data"] == {"api_key_comfy_org": "k-123456789"}


async def test_a_cancelled_call_interrupts_its_job(server: ComfyUIServer, make: Make) -> None:
    server.held.set()
    generator = make()
    task = asyncio.create_task(generator.generate(request()))
    await until(lambda: bool(server.executed))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: server.interrupted == server.executed)
    server.held.clear()
    assert (await generator.generate(request(seed=8))).seed == 8


async def test_a_waiting_job_is_deleted_and_others_are_left_alone(server: ComfyUIServer, make: Make) -> None:
    server.held.set()
    generator = make()
    first = asyncio.create_task(generator.generate(request()))
    await until(lambda: bool(server.executed))
    waiting = asyncio.create_task(generator.generate(request(seed=8)))
    await until(lambda: len(server.queue) == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert server.queue == []
    server.held.clear()
    assert (await first).seed == 7
    assert server.interrupted == []


@pytest.mark.parametrize("is_old", [False, True])
async def test_a_call_that_is_cancelled_early_leaves_nothing(server: ComfyUIServer, make: Make, is_old: bool) -> None:
    server.is_old = is_old
    server.paused.set()
    tasks = [asyncio.create_task(make().generate(request(seed=seed))) for seed in range(4)]
    for number, task in enumerate(tasks):
        await asyncio.sleep(0.01 * number)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert server.queue == []


async def test_time_in_the_queue_is_not_the_jobs(
    server: ComfyUIServer, make: Make, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server.paused.set()
    server.enqueue_for_others(3)
    with caplog.at_level(logging.INFO):
        task = asyncio.create_task(make(timeout_s=60, attempts=1).generate(request()))
        # Longer than the limit in all, but each time the queue becomes shorter in time.
        for ahead in (4, 3, 2):
            await until(lambda ahead=ahead: f"ahead of it: {ahead}" in caplog.text)
            clock.seconds += 50
            server.queue.pop(0)
        await until(lambda: "ahead of it: 1" in caplog.text)
        server.paused.clear()
        assert (await task).seed == 7


async def test_a_queue_that_stands_still_is_given_up(
    server: ComfyUIServer, make: Make, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server.held.set()
    blocking = asyncio.create_task(make().generate(request()))
    await until(lambda: bool(server.executed))
    with caplog.at_level(logging.INFO):
        waiting = asyncio.create_task(make(timeout_s=60, attempts=1).generate(request(seed=8)))
        await until(lambda: "ahead of it: 1" in caplog.text)
    clock.seconds += 61
    with pytest.raises(ProviderTimeoutError, match="did not begin within 60 s: another job came first") as caught:
        await waiting
    assert "GEMS_GENERATOR__TIMEOUT_S" in caught.value.hint
    assert server.queue == []
    assert server.interrupted == []
    server.held.clear()
    await blocking


async def test_a_job_that_takes_too_long_is_interrupted(server: ComfyUIServer, make: Make, clock: Clock) -> None:
    server.held.set()
    heard: list[int] = []
    asked = request(on_progress=lambda done, _total: heard.append(done))
    task = asyncio.create_task(make(timeout_s=60, attempts=1).generate(asked))
    await until(lambda: bool(heard))
    clock.seconds += 61
    with pytest.raises(ProviderTimeoutError, match="did not finish the workflow within 60 s"):
        await task
    await until(lambda: len(server.interrupted) == 1)


@pytest.mark.parametrize("messages", [None, 0])
@pytest.mark.parametrize(
    ("kind", "message", "error"),
    [
        ("torch.OutOfMemoryError", "Allocation on device 0 would exceed allowed memory.", OutOfMemoryError),
        ("torch.cuda.OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB", OutOfMemoryError),
        ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied", RejectedRequestError),
    ],
)
async def test_a_node_that_fails(
    server: ComfyUIServer, make: Make, kind: str, message: str, error: type[GemsError], messages: int | None
) -> None:
    server.failures["VAEDecode"] = (kind, message)
    server.sockets_open = messages
    with pytest.raises(error) as caught:
        await make().generate(request())
    assert type(caught.value) is error
    assert "failed in VAEDecode (node 8)" in caught.value.message
    assert message[:20] in caught.value.message
    assert len(server.executed) == 1


async def test_somebody_interrupts_it(server: ComfyUIServer, make: Make) -> None:
    server.held.set()
    heard: list[int] = []
    asked = request(on_progress=lambda done, _total: heard.append(done))
    task = asyncio.create_task(make().generate(asked))
    await until(lambda: bool(heard))
    server.interrupt = True
    with pytest.raises(RejectedRequestError, match=r"was interrupted in KSampler \(node 3\)"):
        await task


async def test_jobs_that_the_server_forgets(server: ComfyUIServer, make: Make) -> None:
    server.loses_jobs = True
    with pytest.raises(ServerError, match="no longer knows a job"):
        await make(attempts=1).generate(request())


async def test_missing_nodes_and_models_are_named(server: ComfyUIServer, make: Make) -> None:
    server.lacking |= {"CLIPTextEncode", "VAEDecode"}
    with pytest.raises(ModelUnavailableError, match="lacks the node CLIPTextEncode, the node VAEDecode") as caught:
        await make().generate(request())
    assert "Install Missing Custom Nodes" in caught.value.hint
    server.lacking.clear()
    nodes = text_to_image()
    nodes["4"]["inputs"]["ckpt_name"] = "flux9.safetensors"
    with pytest.raises(ModelUnavailableError, match=r"lacks 'flux9.safetensors' for CheckpointLoaderSimple \(node 4\)"):
        await make(nodes).generate(request())
    assert await make(nodes).find_missing() == ["'flux9.safetensors' for CheckpointLoaderSimple (node 4) ckpt_name"]
    assert await make(flux()).find_missing() == []
    assert await make(inpainting()).find_missing() == []


async def test_rejected_inputs_are_told_by_node_and_name(make: Make) -> None:
    with pytest.raises(RejectedRequestError, match=r"KSampler \(node 3\) steps: Value 20000 bigger than max of 10000"):
        await make().generate(request(steps=20_000))
    nodes = text_to_image()
    del nodes["8"]["inputs"]["vae"]
    with pytest.raises(RejectedRequestError, match=r"VAEDecode \(node 8\) vae: Required input is missing"):
        await make(nodes).generate(request())


async def test_no_server_and_another_server(server: ComfyUIServer, make: Make) -> None:
    with pytest.raises(UnreachableError):
        await make(url="http://127.0.0.1:9", attempts=1).generate(request())
    with pytest.raises(ConfigurationError, match="has no ComfyUI: it answered 404") as caught:
        await make(url=f"{server.url}/elsewhere", attempts=1).generate(request())
    assert "8188" in caught.value.hint


async def test_a_result_that_was_deleted_is_drawn_again(server: ComfyUIServer, make: Make) -> None:
    generator = make(attempts=1)
    await generator.generate(request())
    for place in [place for place in server.files if place[0] == "output"]:
        del server.files[place]
    assert (await generator.generate(request())).seed == 7
    assert ["gems_run" in sent["9"]["inputs"] for sent in server.prompts] == [False, False, True]
