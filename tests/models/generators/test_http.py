"""The plain HTTP generator against a server that behaves and misbehaves."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from gems.errors import (
    AuthenticationError,
    EditingUnsupportedError,
    GemsError,
    InvalidImageError,
    ModelSpecError,
    ModelUnavailableError,
    ProviderTimeoutError,
    RateLimitError,
    RefusedError,
    RejectedRequestError,
    ServerError,
    UnreachableError,
    UnreadableReplyError,
)
from gems.generation import ImageRequest
from gems.models.generators import http
from gems.models.generators.http import MAX_URL, HTTPGenerator
from gems.models.generators.remote import RemoteLimits
from tests.support.remote_limits import with_limits
from tests.support.stub import Fault, StubServer
from tests.support.stub.models import flat_picture

KEY = "sk-test-0123456789abcdef"
Make = Callable[..., HTTPGenerator]


def request(prompt: str = "a red circle", seed: int = 7, **more: Any) -> ImageRequest:
    return ImageRequest(**{"prompt": prompt, "seed": seed, "width": 64, "height": 48, **more})


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with StubServer(images=flat_picture) as server:
        yield server


@pytest.fixture
async def make(stub: StubServer) -> AsyncIterator[Make]:
    """Makes generators for the stub that wait little, and closes them."""
    async with AsyncExitStack() as stack:

        def build(url: str | None = None, **options: Any) -> HTTPGenerator:
            generator = HTTPGenerator(url or stub.generate_url, **with_limits(options))
            stack.push_async_callback(generator.aclose)
            return generator

        yield build


async def test_sends_what_a_request_says(stub: StubServer, make: Make) -> None:
    asked = request("50% & more? \u201cGO\u201d #1 +\n<image>", negative_prompt="blur", steps=9, guidance=0.5)
    image = await make(f"{stub.generate_url}?model=z", extra_body={"quality": "high"}).generate(asked)
    assert image.data == flat_picture(asked)
    assert (image.width, image.height, image.seed) == (64, 48, 7)
    assert stub.calls("generate")[0].body == {
        "model": "z",
        "prompt": asked.prompt,
        "seed": "7",
        "width": "64",
        "height": "48",
        "negative_prompt": "blur",
        "steps": "9",
        "guidance": "0.5",
        "quality": "high",
    }
    assert image.parameters == {"negative_prompt": "blur", "steps": 9, "guidance": 0.5, "quality": "high"}


async def test_unset_options_are_not_sent(stub: StubServer, make: Make) -> None:
    await make().generate(request())
    assert set(stub.calls("generate")[0].body) == {"prompt", "seed", "width", "height"}


@pytest.mark.parametrize(("length", "in_query"), [(MAX_URL // 2, True), (MAX_URL, False), (100_000, False)])
async def test_long_prompts_go_into_the_body(stub: StubServer, make: Make, length: int, in_query: bool) -> None:
    asked = request("a" * length)
    assert (await make().generate(asked)).data == flat_picture(asked)
    recorded = stub.calls("generate")[0]
    assert bool(recorded.query) is in_query
    assert recorded.body["prompt"] == asked.prompt
    assert int(recorded.body["seed"]) == 7


async def test_length_counts_as_it_is_sent(stub: StubServer, make: Make) -> None:
    # Each of these characters takes nine in the address.
    await make().generate(request("\u7ea2" * 1000))
    assert stub.calls("generate")[0].query == 0


@pytest.mark.parametrize(
    ("fault", "error", "calls"),
    [
        (Fault("401"), AuthenticationError, 1),
        (Fault("404"), ModelUnavailableError, 1),
        (Fault("redirect", text="http://127.0.0.1:9/"), RejectedRequestError, 1),
        (Fault("moderated"), RefusedError, 1),
        (Fault("429", retry_after=0), RateLimitError, 3),
        (Fault("500"), ServerError, 3),
        (Fault("503"), ServerError, 3),
        (Fault("reset"), UnreachableError, 3),
        (Fault("cut"), UnreachableError, 3),
        (Fault("html"), InvalidImageError, 2),
        (Fault("truncated_png"), InvalidImageError, 2),
        (Fault("bomb"), InvalidImageError, 2),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
async def test_lasting_faults_are_reported(
    stub: StubServer, make: Make, fault: Fault, error: type[GemsError], calls: int
) -> None:
    stub.fault(fault, "generate")
    with pytest.raises(error) as caught:
        await make(attempts=3, api_key=KEY).generate(request())
    assert type(caught.value) is error
    assert KEY not in str(caught.value)
    assert len(stub.calls("generate")) == calls


@pytest.mark.parametrize(
    ("name", "times"),
    [(name, 2) for name in ("429", "500", "503", "reset", "cut")] + [(name, 1) for name in ("html", "truncated_png")],
)
async def test_passing_faults_are_survived(stub: StubServer, make: Make, name: Any, times: int) -> None:
    """An answer that may have been paid for is bought once more only."""
    stub.fault(Fault(name), "generate", times=times)
    image = await make(attempts=3).generate(request())
    assert image.data == flat_picture(request())
    assert len(stub.calls("generate")) == times + 1


@pytest.mark.parametrize("fault", [Fault("hang"), Fault("drip", seconds=30)], ids=["hang", "drip"])
async def test_time_limit_holds_for_the_whole_answer(stub: StubServer, make: Make, fault: Fault) -> None:
    stub.fault(fault, "generate")
    async with asyncio.timeout(180):
        with pytest.raises(ProviderTimeoutError):
            await make(attempts=2, timeout_s=2).generate(request())


async def test_first_bytes_are_quoted(stub: StubServer, make: Make) -> None:
    stub.fault(Fault("html"), "generate")
    with pytest.raises(InvalidImageError, match="DOCTYPE html"):
        await make(attempts=1).generate(request())


async def test_answer_without_end_is_not_read(stub: StubServer, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_IMAGE_BYTES", 50)
    with pytest.raises(UnreadableReplyError, match="more than 50 bytes"):
        await make(attempts=1).generate(request())


async def test_another_size_is_kept_and_told(stub: StubServer, make: Make) -> None:
    stub.fault(Fault("wrong_size", size=(96, 80)), "generate")
    image = await make().generate(request())
    assert (image.width, image.height) == (96, 80)


async def test_key_is_a_bearer_token(stub: StubServer, make: Make) -> None:
    await make().generate(request())
    stub.behaviour.api_key = KEY
    await make(api_key=KEY).generate(request())
    assert "authorization" not in stub.requests[0].headers


async def test_password_in_the_address_is_not_told(stub: StubServer, make: Make) -> None:
    stub.fault(Fault("500"), "generate")
    generator = make(stub.generate_url.replace("//", "//anna:hunter22@") + "?token=abcd", attempts=1)
    with pytest.raises(ServerError) as caught:
        await generator.generate(request())
    assert stub.requests[0].headers["authorization"].startswith("Basic ")
    for text in (str(caught.value), generator.capabilities.model):
        assert "hunter22" not in text
        assert "abcd" not in text


async def test_editing_is_refused_before_asking(stub: StubServer, make: Make) -> None:
    with pytest.raises(EditingUnsupportedError):
        await make().generate(request(source=b"png"))
    assert stub.requests == []


async def test_concurrency_is_limited(stub: StubServer, make: Make) -> None:
    stub.behaviour.image_s = 0.05
    generator = make(concurrency=2)
    await asyncio.gather(*(generator.generate(request(seed=seed)) for seed in range(6)))
    assert stub.peak("generate") == 2


@pytest.mark.parametrize("address", ["", "generate", "ftp://host/generate", "http://h:99999/"])
def test_unusable_addresses(address: str) -> None:
    with pytest.raises(ModelSpecError):
        HTTPGenerator(address)


def test_several_event_loops(stub: StubServer) -> None:
    generator = HTTPGenerator(stub.generate_url, limits=RemoteLimits(concurrency=1))

    async def both() -> list[bytes]:
        images = await asyncio.gather(*(generator.generate(request()) for _ in range(2)))
        await generator.aclose()
        return [image.data for image in images]

    assert asyncio.run(both()) == asyncio.run(both())


async def test_steps_and_guidance_of_the_settings_are_sent(stub: StubServer, make: Make) -> None:
    generator = make(steps=9, guidance=2.5)
    await generator.generate(request())
    await generator.generate(request(steps=3))
    sent = [(str(asked.body["steps"]), str(asked.body["guidance"])) for asked in stub.calls("generate")]
    assert sent == [("9", "2.5"), ("3", "2.5")]
