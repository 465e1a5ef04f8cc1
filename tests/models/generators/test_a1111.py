"""The generator for A1111, Forge and SD.Next against a server with their API."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from PIL import Image

from gems.errors import (
    AuthenticationError,
    ConfigurationError,
    GemsError,
    InvalidImageError,
    ModelUnavailableError,
    OutOfMemoryError,
    ProviderTimeoutError,
    RejectedRequestError,
    ServerError,
    UnreadableReplyError,
)
from gems.generation import ImageRequest
from gems.models.generators.a1111 import A1111Generator
from gems.models.images import encode_png
from tests.support.a1111_server import A1111Server, serving_a1111
from tests.support.remote_limits import with_limits
from tests.support.scripted_service import PATIENCE_S
from tests.support.stub.models import flat_picture

Make = Callable[..., A1111Generator]


def request(prompt: str = "a red circle", seed: int = 7, **more: Any) -> ImageRequest:
    return ImageRequest(**{"prompt": prompt, "seed": seed, "width": 64, "height": 72, "steps": 3, **more})


@pytest.fixture
def server() -> Iterator[A1111Server]:
    with serving_a1111() as started:
        yield started


@pytest.fixture
async def make(server: A1111Server) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        def build(url: str | None = None, **options: Any) -> A1111Generator:
            generator = A1111Generator(url or server.url, **with_limits(options))
            stack.push_async_callback(generator.aclose)
            return generator

        yield build


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - the server is in another thread
            await asyncio.sleep(0.01)


async def test_records_what_the_server_used(server: A1111Server, make: Make) -> None:
    generator = make(sampler="k_dpmpp_2m", checkpoint="juggernautXL_v9.safetensors", extra_body={"scheduler": "Karras"})
    image = await generator.generate(request(negative_prompt="blur", guidance=5.5))
    sent = server.calls("txt2img")[0]
    assert sent["sampler_name"] == "DPM++ 2M"
    assert sent["override_settings"] == {"sd_model_checkpoint": "xl/juggernautXL_v9.safetensors [c9e3e68f89]"}
    assert (image.seed, image.width, image.height, image.warnings) == (7, 64, 72, ())
    assert image.parameters == {
        "steps": 3,
        "guidance": 5.5,
        "sampler": "DPM++ 2M",
        "scheduler": "Karras",
        "checkpoint": "juggernautXL_v9",
        "model_hash": "c9e3e68f89",
        "clip_skip": 1,
        "negative_prompt": "blur",
    }
    await generator.generate(request(seed=8))
    assert [len(server.calls(path)) for path in ("samplers", "sd-models")] == [1, 1]


@pytest.mark.parametrize(
    ("option", "named"), [("sampler", "DPM++ 2M, Euler"), ("checkpoint", "dreamshaper_8, juggernautXL_v9")]
)
async def test_names_that_the_server_lacks_are_told_with_its_own(
    option: str, named: str, server: A1111Server, make: Make
) -> None:
    with pytest.raises(ConfigurationError, match="'Heun3'") as caught:
        await make(**{option: "Heun3"}).generate(request())
    assert named in caught.value.hint
    assert f"GEMS_GENERATOR__{option.upper()}" in caught.value.hint
    assert server.drawings() == 0


async def test_edits_and_inpaints(server: A1111Server, make: Make) -> None:
    source = flat_picture(request("source"))
    mask = Image.new("L", (64, 72))
    mask.paste(255, (0, 0, 32, 72))
    edited = await make().generate(request(source=source, strength=0.4))
    sent = server.calls("img2img")[0]
    assert sent["denoising_strength"] == 0.4
    assert "mask" not in sent
    assert edited.parameters["strength"] == 0.4
    generator = make(extra_body={"inpaint_full_res": True, "inpainting_fill": 2})
    inpainted = await generator.generate(request(source=source, mask=encode_png(mask)))
    sent = server.calls("img2img")[1]
    assert (sent["inpainting_fill"], sent["inpaint_full_res"], sent["mask_blur"]) == (2, True, 4)
    assert inpainted.parameters["inpainting_fill"] == 2
    with Image.open(io.BytesIO(inpainted.data)) as result, Image.open(io.BytesIO(source)) as before:
        assert result.crop((32, 0, 64, 72)).tobytes() == before.convert("RGB").crop((32, 0, 64, 72)).tobytes()
        assert result.getpixel((3, 3)) != before.getpixel((3, 3))


async def test_progress_is_reported(server: A1111Server, make: Make) -> None:
    seen: list[tuple[int, int]] = []
    server.is_paused = True

    def note(done: int, total: int) -> None:
        seen.append((done, total))
        server.is_paused = False

    async with asyncio.timeout(PATIENCE_S):
        image = await make().generate(request(steps=5, on_progress=note))
    assert seen[0] == (1, 5)
    assert image.parameters["steps"] == 5


@pytest.mark.parametrize("tells_task", [True, False])
async def test_cancelling_interrupts_the_server(tells_task: bool, server: A1111Server, make: Make) -> None:
    server.is_paused, server.tells_task = True, tells_task
    generator = make()
    drawing = asyncio.create_task(generator.generate(request()))
    await until(lambda: server.state["sampling_step"] == 1)
    drawing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await drawing
    assert server.interrupts == 1
    server.is_paused = False
    assert (await generator.generate(request(seed=8))).seed == 8


@pytest.mark.parametrize("tells_task", [True, False])
async def test_work_of_others_is_not_interrupted(
    tells_task: bool, server: A1111Server, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.is_paused, server.tells_task = True, tells_task
    async with httpx.AsyncClient(timeout=PATIENCE_S) as other:
        body = {"prompt": "somebody else's", "seed": 1, "width": 64, "height": 64, "force_task_id": "theirs"}
        theirs = asyncio.create_task(other.post(f"{server.url}/sdapi/v1/txt2img", json=body))
        await until(lambda: server.task == "theirs")
        seen: list[tuple[int, int]] = []
        generator = make()
        # As if theirs had come in between.
        monkeypatch.setattr(generator, "_wait_turn", lambda _client: asyncio.sleep(0))
        ours = asyncio.create_task(generator.generate(request(on_progress=lambda *steps: seen.append(steps))))
        await until(lambda: server.drawings() == 2 and len(server.calls("progress")) > 2)
        ours.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ours
        server.is_paused = False
        assert (await theirs).status_code == 200
    assert server.interrupts == 0
    assert seen == []


async def test_work_of_others_is_waited_for(server: A1111Server, make: Make) -> None:
    server.is_paused = True
    async with httpx.AsyncClient(timeout=PATIENCE_S) as other:
        body = {"prompt": "somebody else's", "seed": 1, "width": 64, "height": 64}
        theirs = asyncio.create_task(other.post(f"{server.url}/sdapi/v1/txt2img", json=body))
        await until(lambda: server.jobs == 1)
        ours = asyncio.create_task(make().generate(request()))
        await until(lambda: len(server.calls("progress")) > 1)
        assert server.drawings() == 1
        server.is_paused = False
        assert (await theirs).status_code == 200
        assert (await ours).seed == 7


async def test_wait_for_others_has_an_end(server: A1111Server, make: Make) -> None:
    server.state |= {"job_count": 1}
    assert (await make(timeout_s=0.6).generate(request())).seed == 7
    assert len(server.calls("progress")) > 1


async def test_interruption_by_others_is_told(server: A1111Server, make: Make) -> None:
    server.is_paused = True
    drawing = asyncio.create_task(make().generate(request()))
    await until(lambda: server.state["sampling_step"] == 1)
    server.state["interrupted"] = True
    polled = len(server.calls("progress"))
    await until(lambda: len(server.calls("progress")) > polled + 1)
    server.is_paused = False
    assert "interrupted by somebody else" in (await drawing).warnings[0]


async def test_time_limit_interrupts_the_server(server: A1111Server, make: Make) -> None:
    server.is_paused = True
    with pytest.raises(ProviderTimeoutError):
        await make(timeout_s=1.0, attempts=1).generate(request())
    # Unless not even the request had come.
    assert server.interrupts == server.jobs


async def test_one_request_at_a_time(server: A1111Server, make: Make) -> None:
    server.is_paused = True
    generator = make(concurrency=4)
    waiting = [asyncio.create_task(generator.generate(request(seed=seed))) for seed in range(3)]
    await until(lambda: server.state["sampling_step"] == 1)
    assert server.drawings() == 1
    server.is_paused = False
    assert [image.seed for image in await asyncio.gather(*waiting)] == [0, 1, 2]


async def test_another_size_is_told(server: A1111Server, make: Make) -> None:
    server.size = (128, 96)
    image = await make().generate(request())
    assert (image.width, image.height) == (128, 96)
    assert "128x96 pixels, not of the requested 64x72" in image.warnings[0]


async def test_key_is_user_and_password(server: A1111Server, make: Make) -> None:
    server.auth = "ann:correct-horse-battery"
    await make(api_key=server.auth).generate(request())
    for key in (None, "ann:wrong-horse-battery"):
        with pytest.raises(AuthenticationError, match="401") as caught:
            await make(api_key=key).generate(request())
        assert "USER:PASSWORD" in caught.value.hint
        assert "wrong-horse" not in str(caught.value)


async def test_server_without_api(server: A1111Server, make: Make) -> None:
    server.has_api = False
    with pytest.raises(ModelUnavailableError) as caught:
        await make().generate(request())
    assert "--api" in caught.value.hint
    assert len(server.requests) == 1


def failure(kind: str, detail: str = "", errors: str = "") -> dict[str, Any]:
    return {"error": kind, "detail": detail, "body": "", "errors": errors}


@pytest.mark.parametrize(
    ("status", "body", "error", "text", "asked"),
    [
        (500, failure("OutOfMemoryError", errors="CUDA out of memory."), OutOfMemoryError, "CUDA out of memory", 1),
        (500, failure("RuntimeError", errors="HIP out of memory."), OutOfMemoryError, "HIP out of memory", 1),
        (500, failure("NansException", errors="NaNs in Unet"), RejectedRequestError, "NaNs in Unet", 1),
        (500, failure("RuntimeError", errors="mat1 and mat2"), ServerError, "RuntimeError", 2),
        (422, {"detail": [{"msg": "value is not a valid integer"}]}, RejectedRequestError, "valid integer", 1),
        (200, {"images": [], "info": "CUDA out of memory"}, OutOfMemoryError, "out of memory", 1),
        (200, {"images": [], "info": ""}, UnreadableReplyError, "no image", 2),
        (200, ["x"], UnreadableReplyError, "no image", 2),
        (200, {"images": ["%%%"], "info": "{}"}, InvalidImageError, "base64", 2),
    ],
)
async def test_failures(
    status: int, body: Any, error: type[GemsError], text: str, asked: int, server: A1111Server, make: Make
) -> None:
    server.failures += [(status, body)] * 2
    with pytest.raises(error, match=text):
        await make(attempts=2).generate(request())
    assert server.drawings() == asked


async def test_what_was_used_may_be_unknown(server: A1111Server, make: Make) -> None:
    picture = server._paint("txt2img", {"prompt": "x", "seed": 1, "width": 64, "height": 72})
    server.failures.append((200, {"images": [picture], "info": "not JSON"}))
    image = await make(sampler="Euler").generate(request(guidance=4.0))
    assert image.parameters == {"steps": 3, "guidance": 4.0, "sampler": "Euler"}
    assert "did not tell what it used" in image.warnings[0]
