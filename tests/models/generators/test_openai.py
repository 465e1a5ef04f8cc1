"""The OpenAI Images generator against a server that behaves and misbehaves."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from PIL import Image

from gems.errors import (
    AuthenticationError,
    GemsError,
    InvalidImageError,
    ModelSpecError,
    ModelUnavailableError,
    ProviderTimeoutError,
    RateLimitError,
    RefusedError,
    RejectedRequestError,
    ServerError,
    SizeError,
    UnreachableError,
    UnreadableReplyError,
)
from gems.generation import ImageRequest
from gems.models.generators.openai import OpenAIImagesGenerator, find_rejected_parameter, is_openai
from gems.models.generators.remote import RemoteLimits
from gems.models.images import encode_png
from tests.support.remote_limits import with_limits
from tests.support.stub import Fault, StubServer
from tests.support.stub.models import edited_picture, flat_picture

KEY = "sk-test-0123456789abcdef"
Make = Callable[..., OpenAIImagesGenerator]


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

        def build(base_url: str | None = None, **options: Any) -> OpenAIImagesGenerator:
            generator = OpenAIImagesGenerator("painter", base_url or stub.base_url, **with_limits(options))
            stack.push_async_callback(generator.aclose)
            return generator

        yield build


async def test_sends_what_a_request_says(stub: StubServer, make: Make) -> None:
    generator = make(extra_body={"quality": "high"})
    asked = request(negative_prompt="blur", steps=9, guidance=0.0)
    image = await generator.generate(asked)
    assert (image.width, image.height, image.seed, image.model) == (64, 48, 7, "openai:painter")
    assert image.data == flat_picture(asked)
    assert stub.calls("images")[0].body == {
        "model": "painter",
        "prompt": "a red circle",
        "n": 1,
        "size": "64x48",
        "response_format": "b64_json",
        "seed": 7,
        "negative_prompt": "blur",
        "num_inference_steps": 9,
        "guidance_scale": 0.0,
        "quality": "high",
    }
    assert image.parameters == {"negative_prompt": "blur", "steps": 9, "guidance": 0.0, "quality": "high"}
    assert image.seconds > 0


async def test_unset_options_are_not_sent(stub: StubServer, make: Make) -> None:
    await make().generate(request())
    assert set(stub.calls("images")[0].body) == {"model", "prompt", "n", "size", "response_format", "seed"}


async def test_revised_prompt_is_kept(stub: StubServer, make: Make) -> None:
    stub.behaviour.revised_prompt = "a crimson disc"
    image = await make().generate(request())
    assert image.parameters["revised_prompt"] == "a crimson disc"


async def test_unknown_parameters_are_learnt_once(stub: StubServer, make: Make) -> None:
    stub.fault(Fault("unknown_parameter", text="response_format"), "images")
    stub.fault(Fault("unknown_parameter", text="seed"), "images")
    generator = make()
    assert generator.capabilities.seeds
    first = await generator.generate(request())
    assert len(stub.calls("images")) == 3
    second = await generator.generate(request())
    assert len(stub.calls("images")) == 4
    assert not generator.capabilities.seeds
    assert generator.capabilities.negative_prompts
    for image in (first, second):
        assert image.seed is None
        assert image.parameters == {"not_taken": ["seed"]}


async def test_negative_prompt_that_is_not_taken(stub: StubServer, make: Make) -> None:
    stub.fault(Fault("unknown_parameter", text="negative_prompt"), "images")
    generator = make()
    image = await generator.generate(request(negative_prompt="blur"))
    assert not generator.capabilities.negative_prompts
    assert image.parameters == {"not_taken": ["negative_prompt"]}
    assert image.seed == 7


async def test_other_unknown_parameters_are_an_error(stub: StubServer, make: Make) -> None:
    stub.fault(Fault("unknown_parameter", text="quality"), "images")
    with pytest.raises(RejectedRequestError, match="quality"):
        await make(extra_body={"quality": "high"}).generate(request())
    assert len(stub.calls("images")) == 1


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": {"message": "Unknown parameter: 'seed'.", "param": "seed", "code": "unknown_parameter"}}, "seed"),
        ({"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not ok"}]}, "seed"),
        ({"error": {"message": "Additional properties are not allowed ('guidance_scale' was unexpected)"}}, None),
        ({"error": {"message": "model does not support parameters: {'seed': 7}"}}, "seed"),
        ({"message": "response_format is not supported for this model"}, "response_format"),
        ({"error": {"message": "Invalid value for seed: must be below 2147483648", "param": "seed"}}, None),
        ({"error": {"message": "Unsupported value: 'seed' is too large.", "param": "seed"}}, None),
        ({"error": {"message": "seed must be at least 0", "code": "invalid_value", "param": "seed"}}, None),
        ("plain text: unexpected keyword argument 'seed'", "seed"),
        ({"error": "size is not supported"}, None),
    ],
)
def test_complaints_are_told_from_values(body: Any, expected: str | None) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    assert find_rejected_parameter(text, ["response_format", "seed"]) == expected


@pytest.mark.parametrize(
    ("fault", "error", "calls"),
    [
        (Fault("401"), AuthenticationError, 1),
        (Fault("403"), AuthenticationError, 1),
        (Fault("404"), ModelUnavailableError, 1),
        (Fault("quota"), ModelUnavailableError, 1),
        (Fault("moderated"), RefusedError, 1),
        (Fault("429"), RateLimitError, 3),
        (Fault("500"), ServerError, 3),
        (Fault("503", retry_after=0), ServerError, 3),
        (Fault("reset"), UnreachableError, 3),
        (Fault("cut"), UnreachableError, 3),
        (Fault("html"), UnreadableReplyError, 2),
        (Fault("truncated_json"), UnreadableReplyError, 2),
        (Fault("malformed_json"), UnreadableReplyError, 2),
        (Fault("no_choices"), UnreadableReplyError, 2),
        (Fault("no_picture"), UnreadableReplyError, 2),
        (Fault("truncated_png"), InvalidImageError, 2),
        (Fault("html_picture"), InvalidImageError, 2),
        (Fault("bomb"), InvalidImageError, 2),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
async def test_lasting_faults_are_reported(
    stub: StubServer, make: Make, fault: Fault, error: type[GemsError], calls: int
) -> None:
    stub.fault(fault, "images")
    with pytest.raises(error) as caught:
        await make(attempts=3, api_key=KEY).generate(request())
    assert type(caught.value) is error
    assert "painter at http://127.0.0.1:" in caught.value.message
    assert KEY not in str(caught.value)
    assert len(stub.calls("images")) == calls


@pytest.mark.parametrize(
    ("name", "times"),
    [(name, 2) for name in ("429", "500", "503", "reset", "cut")]
    + [(name, 1) for name in ("html", "truncated_json", "truncated_png", "bomb")],
)
async def test_passing_faults_are_survived(stub: StubServer, make: Make, name: Any, times: int) -> None:
    """An answer that may have been paid for is bought once more only."""
    stub.fault(Fault(name), "images", times=times)
    image = await make(attempts=3).generate(request())
    assert image.data == flat_picture(request())
    assert len(stub.calls("images")) == times + 1


@pytest.mark.parametrize("fault", [Fault("hang"), Fault("drip", seconds=30)], ids=["hang", "drip"])
async def test_time_limit_holds_for_the_whole_answer(stub: StubServer, make: Make, fault: Fault) -> None:
    stub.fault(fault, "images")
    async with asyncio.timeout(180):
        with pytest.raises(ProviderTimeoutError):
            await make(attempts=2, timeout_s=0.3).generate(request())
    assert len(stub.calls("images")) == 2


async def test_nobody_listens(make: Make) -> None:
    with pytest.raises(UnreachableError):
        await make("http://127.0.0.1:9/v1", attempts=2).generate(request())


async def test_first_bytes_are_quoted(stub: StubServer, make: Make) -> None:
    stub.fault(Fault("html_picture"), "images")
    with pytest.raises(InvalidImageError, match="DOCTYPE html"):
        await make(attempts=1).generate(request())


async def test_another_size_is_kept_and_told(stub: StubServer, make: Make) -> None:
    stub.fault(Fault("wrong_size", size=(96, 80)), "images")
    image = await make().generate(request())
    assert (image.width, image.height) == (96, 80)
    assert Image.open(io.BytesIO(image.data)).size == (96, 80)


async def test_address_on_the_same_server_is_fetched(stub: StubServer, make: Make) -> None:
    stub.fault(Fault("url"), "images")
    image = await make(api_key=KEY).generate(request())
    assert image.data == flat_picture(request())
    assert [recorded.kind for recorded in stub.requests] == ["images", "files"]


async def test_relative_and_data_addresses(stub: StubServer, make: Make) -> None:
    stub.fault(Fault("url", text="/files/0.png"), "images", times=1)
    stub.fault(Fault("url", text="data:image/png;base64,bm90IGEgcGljdHVyZQ=="), "images", times=1)
    generator = make(attempts=1)
    assert (await generator.generate(request())).data == flat_picture(request())
    with pytest.raises(InvalidImageError, match="not a picture"):
        await generator.generate(request())


@pytest.mark.parametrize(
    "address",
    ["http://169.254.169.254/latest/meta-data", "https://127.0.0.1/x.png", "file:///etc/passwd", "http://[:1/"],
)
async def test_address_elsewhere_is_not_fetched(stub: StubServer, make: Make, address: str) -> None:
    stub.fault(Fault("url", text=address), "images")
    with pytest.raises(RejectedRequestError, match="another server"):
        await make(api_key=KEY).generate(request())
    assert len(stub.requests) == 1


async def test_other_port_gets_neither_request_nor_key(stub: StubServer, make: Make) -> None:
    with StubServer(images=flat_picture) as other:
        stub.fault(Fault("url", text=f"{other.root}/files/0.png"), "images")
        with pytest.raises(RejectedRequestError):
            await make(api_key=KEY).generate(request())
        assert other.requests == []


async def test_environment_belongs_to_openai_only(
    stub: StubServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, "private-0123456789")
    await make().generate(request())
    headers = stub.calls("images")[0].headers
    assert headers["authorization"] == "Bearer none"
    assert not any("private" in value for value in headers.values())


async def test_base_url_of_the_environment_gets_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "private-0123456789")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    async with OpenAIImagesGenerator("gpt-image-1")._open() as client:
        assert str(client.base_url) == "https://api.openai.com/v1/"
        assert client.api_key == "private-0123456789"


async def test_own_key_is_sent(stub: StubServer, make: Make) -> None:
    stub.behaviour.api_key = KEY
    await make(api_key=KEY).generate(request())
    with pytest.raises(AuthenticationError) as caught:
        await make(api_key="wrong-key-123456").generate(request())
    assert "wrong-key" not in str(caught.value)


async def test_missing_key_for_openai() -> None:
    with pytest.raises(AuthenticationError, match="none is set"):
        await OpenAIImagesGenerator("gpt-image-1").generate(request(width=1024, height=1024))


async def test_redirects_are_not_followed(stub: StubServer, make: Make) -> None:
    stub.fault(Fault("redirect", text="http://127.0.0.1:9/elsewhere"), "images")
    with pytest.raises(RejectedRequestError, match="307"):
        await make(api_key=KEY).generate(request())


async def test_editing_sends_the_source(stub: StubServer, make: Make) -> None:
    source = flat_picture(request(prompt="source"))
    image = await make().generate(request(source=source, steps=4))
    sent = stub.calls("images")[0]
    assert sent.path == "/v1/images/edits"
    assert sent.files == {"image": source}
    assert sent.body["seed"] == "7"
    assert sent.body["num_inference_steps"] == "4"
    assert sent.body["prompt"] == "a red circle"
    assert image.seed == 7


async def test_concurrency_is_limited(stub: StubServer, make: Make) -> None:
    stub.behaviour.image_s = 0.05
    generator = make(concurrency=2)
    await asyncio.gather(*(generator.generate(request(seed=seed)) for seed in range(6)))
    assert stub.peak("images") == 2


def test_known_sizes_of_openai() -> None:
    generator = OpenAIImagesGenerator("gpt-image-1", api_key=KEY)
    assert generator.capabilities.sizes == ((1024, 1024), (1536, 1024), (1024, 1536))
    assert not generator.capabilities.seeds
    assert OpenAIImagesGenerator("gpt-image-1", "http://127.0.0.1:9/v1").capabilities.sizes is None
    assert not OpenAIImagesGenerator("dall-e-3", api_key=KEY).capabilities.editing
    with pytest.raises(SizeError, match="1536x1024"):
        OpenAIImagesGenerator("gpt-image-1", api_key=KEY, size=(64, 64))


@pytest.mark.parametrize("address", ["painter", "ftp://host/v1", "http://", "http://[:1/", "http://h:99999/"])
def test_unusable_addresses(address: str) -> None:
    with pytest.raises(ModelSpecError):
        OpenAIImagesGenerator("painter", address)


def test_whose_address_is_openais() -> None:
    assert is_openai("https://api.openai.com/v1")
    assert is_openai("https://eu.api.openai.com/v1")
    assert not is_openai("http://api.openai.com/v1")
    assert not is_openai("https://api.openai.com.example.org/v1")
    assert not is_openai("https://example.org/api.openai.com")


def test_several_event_loops(stub: StubServer) -> None:
    generator = OpenAIImagesGenerator("painter", stub.base_url, limits=RemoteLimits(concurrency=1))

    async def both() -> list[bytes]:
        images = await asyncio.gather(*(generator.generate(request()) for _ in range(2)))
        await generator.aclose()
        return [image.data for image in images]

    assert asyncio.run(both()) == asyncio.run(both())


async def test_further_fields_are_sent_but_not_recorded(stub: StubServer) -> None:
    """They may be secrets; what decides the pixels is recorded."""
    extra = {"provider_key": "sesame", "quality": "high"}
    generator = OpenAIImagesGenerator("stub", stub.base_url, extra_body=extra)
    image = await generator.generate(request())
    await generator.aclose()
    assert stub.calls("images")[0].body["provider_key"] == "sesame"
    assert image.parameters["quality"] == "high"
    assert "sesame" not in str(image.parameters)


def painted_mask(box: tuple[int, int, int, int]) -> bytes:
    mask = Image.new("L", (64, 48))
    mask.paste(255, box)
    return encode_png(mask)


async def test_mask_is_sent_transparent_where_the_source_changes(stub: StubServer, make: Make) -> None:
    source = flat_picture(request("source"))
    await make().generate(request(source=source, mask=painted_mask((0, 0, 64, 48))))
    with Image.open(io.BytesIO(stub.calls("images")[0].files["mask"])) as mask:
        assert mask.mode == "RGBA"
        assert mask.getchannel("A").getextrema() == (0, 0)


async def test_references_are_sent_beside_the_source(stub: StubServer, make: Make) -> None:
    source, one, two = (flat_picture(request(name)) for name in ("source", "one", "two"))
    generator = make(extra_body={"input_fidelity": "high", "quality": "low"})
    image = await generator.generate(request(source=source, references=(one, two)))
    await generator.generate(request(references=(one,)))
    await generator.generate(request())
    both, alone, none = stub.calls("images")
    assert list(both.files.values()) == [source, one, two]
    assert {name[:7] for name in both.files} == {"image[]"}
    assert alone.files == {"image": one}
    assert [call.body.get("input_fidelity") for call in (both, alone, none)] == ["high", "high", None]
    assert image.parameters == {"quality": "low", "input_fidelity": "high"}


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (415, "Unsupported Media Type"),
        (400, "Invalid Content-Type: expected application/json"),
        (422, "body: Input should be a valid dictionary"),
        (400, "Invalid JSON body"),
    ],
)
async def test_edits_are_sent_as_json_where_forms_are_refused(
    status: int, text: str, stub: StubServer, make: Make
) -> None:
    stub.fault(Fault("refused", status=status, text=text), "images", when=lambda body: "images" not in body)
    source, one = flat_picture(request("source")), flat_picture(request("one"))
    generator = make()
    for seed in (7, 8):
        asked = request(source=source, mask=painted_mask((0, 0, 64, 48)), references=(one,), seed=seed)
        assert (await generator.generate(asked)).seed == seed
    assert len(stub.calls("images")) == 3
    sent = stub.calls("images")[2]
    assert sent.path == "/v1/images/edits"
    assert len(sent.body["images"]) == 2
    assert sent.body["mask"]["image_url"].startswith("data:image/png;base64,")
    assert (sent.body["model"], sent.body["size"], sent.body["seed"]) == ("painter", "64x48", 8)


async def test_other_refusals_of_edits_are_final(stub: StubServer, make: Make) -> None:
    stub.fault(Fault("refused", status=400, text="The image is too large."), "images")
    with pytest.raises(RejectedRequestError, match="too large"):
        await make().generate(request(source=flat_picture(request("source"))))
    assert len(stub.calls("images")) == 1


async def test_unknown_mask_is_applied_afterwards() -> None:
    with StubServer(images=edited_picture) as stub:
        stub.fault(Fault("unknown_parameter", text="mask"), "images")
        generator = OpenAIImagesGenerator("painter", stub.base_url)
        source = flat_picture(request("source"))
        image = await generator.generate(request(source=source, mask=painted_mask((0, 0, 64, 24))))
        await generator.aclose()
    assert image.parameters == {"not_taken": ["mask"]}
    assert not generator.capabilities.inpainting
    with Image.open(io.BytesIO(image.data)) as result, Image.open(io.BytesIO(source)) as before:
        assert result.crop((0, 24, 64, 48)).tobytes() == before.crop((0, 24, 64, 48)).tobytes()


@pytest.mark.parametrize(
    ("model", "good", "bad", "references"),
    [
        ("gpt-image-1", (1536, 1024), (1792, 1024), 15),
        ("gpt-image-1-mini", (1024, 1024), (512, 512), 15),
        ("gpt-image-1.5-2025-12-16", (1024, 1536), (2048, 2048), 15),
        ("chatgpt-image-latest", (1024, 1536), (2048, 2048), 15),
        ("gpt-image-2", (3840, 2160), (1000, 1000), 15),
        ("gpt-image-2", (1408, 480), (512, 512), 15),
        ("gpt-image-2", (816, 816), (3840, 3840), 15),
        ("gpt-image-2.5-flare", (1536, 864), (4096, 1024), 15),
        ("dall-e-3", (1792, 1024), (1536, 1024), 0),
        ("gpt-next", (1000, 1000), (9000, 9000), 15),
    ],
)
def test_limits_of_openais_own_models(model: str, good: tuple[int, int], bad: tuple[int, int], references: int) -> None:
    able = OpenAIImagesGenerator(model, api_key=KEY).capabilities
    able.check_size(*good)
    with pytest.raises(SizeError):
        able.check_size(*bad)
    assert able.references == references
    assert able.editing is able.inpainting is (references > 0)
    assert not able.seeds
