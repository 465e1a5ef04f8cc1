"""The generator for chat models that answer with images, against a server that behaves and misbehaves."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from PIL import Image
from starlette.responses import JSONResponse

from gems.errors import (
    AuthenticationError,
    GemsError,
    InvalidImageError,
    ModelUnavailableError,
    RateLimitError,
    RefusedError,
    RejectedRequestError,
    ServerError,
    UnreadableReplyError,
)
from gems.generation import ImageRequest
from gems.models.generators.openai_chat import OpenAIChatGenerator
from gems.models.images import encode_png
from tests.support.remote_limits import with_limits
from tests.support.stub import Fault, StubServer
from tests.support.stub.chat_pictures import FORMS, read_request
from tests.support.stub.models import edited_picture, flat_picture

KEY = "sk-test-0123456789abcdef"
Make = Callable[..., OpenAIChatGenerator]


def request(prompt: str = "a red circle", seed: int = 7, **more: Any) -> ImageRequest:
    return ImageRequest(**{"prompt": prompt, "seed": seed, "width": 64, "height": 48, **more})


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with StubServer(images=edited_picture) as server:
        yield server


@pytest.fixture
async def make(stub: StubServer) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        def build(base_url: str | None = None, **options: Any) -> OpenAIChatGenerator:
            generator = OpenAIChatGenerator("painter", base_url or stub.base_url, **with_limits(options))
            stack.push_async_callback(generator.aclose)
            return generator

        yield build


async def test_sends_what_a_request_says(stub: StubServer, make: Make) -> None:
    stub.behaviour.cost = 0.039
    image = await make(api_key=KEY).generate(request(negative_prompt="blur"))
    sent = stub.calls("chat")[0]
    assert sent.body == {
        "model": "painter",
        "messages": [
            {
                "role": "user",
                "content": "a red circle\n\nAvoid: blur\n\nSize of the image: 64x48 pixels, aspect ratio 4:3.",
            }
        ],
        "modalities": ["image", "text"],
        "seed": 7,
        "stream": False,
    }
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert (image.width, image.height, image.seed, image.warnings) == (64, 48, 7, ())
    assert image.parameters == {"negative_prompt": "blur", "answer": "Here it is.", "cost_usd": 0.039}


@pytest.mark.parametrize("form", FORMS)
async def test_finds_the_image_in_every_form(form: str, stub: StubServer, make: Make) -> None:
    stub.behaviour.picture_form = form
    image = await make().generate(request())
    assert image.data == flat_picture(read_request(stub.calls("chat")[0].body))
    assert len(stub.calls("chat")) == 1
    assert "base64" not in str(image.parameters)


async def test_image_on_another_server_needs_a_permission(stub: StubServer, make: Make) -> None:
    stub.behaviour.picture_form = "markdown_address"
    with StubServer() as other:
        stub.fault(Fault("url", text=f"{other.root}/files/0.png"))
        with pytest.raises(RejectedRequestError, match="its host is not allowed") as caught:
            await make(api_key=KEY).generate(request())
    assert "GEMS_GENERATOR__IMAGE_HOSTS" in caught.value.hint
    assert len(stub.calls("chat")) == 1


async def test_edits_with_references(stub: StubServer, make: Make) -> None:
    source, first, second = (flat_picture(request(name)) for name in ("source", "first", "second"))
    image = await make().generate(request(source=source, references=(first, second)))
    asked = read_request(stub.calls("chat")[0].body)
    assert (asked.source, asked.references) == (source, (first, second))
    assert "The first image is the one to edit" in asked.prompt
    assert image.data == edited_picture(asked)


async def test_mask_is_applied_afterwards(make: Make) -> None:
    source = flat_picture(request("source"))
    mask = Image.new("L", (64, 48))
    mask.paste(255, (0, 0, 64, 24))
    image = await make().generate(request(source=source, mask=encode_png(mask)))
    with Image.open(io.BytesIO(image.data)) as result, Image.open(io.BytesIO(source)) as before:
        assert result.crop((0, 24, 64, 48)).tobytes() == before.crop((0, 24, 64, 48)).tobytes()
        assert result.getpixel((3, 3)) != before.getpixel((3, 3))


async def test_another_size_is_told(stub: StubServer, make: Make) -> None:
    stub.fault(Fault("wrong_size", size=(96, 80)))
    image = await make().generate(request())
    assert (image.width, image.height) == (96, 80)
    assert "96x80 pixels, not of the requested 64x48" in image.warnings[0]


@pytest.mark.parametrize(
    ("size", "config", "expected"),
    [
        ((1344, 768), {}, {"aspect_ratio": "16:9"}),
        ((1000, 1010), {}, {"aspect_ratio": "1:1"}),
        ((512, 1100), {"image_size": "2K"}, {"aspect_ratio": "9:16", "image_size": "2K"}),
        ((512, 512), {"aspect_ratio": "21:9"}, {"aspect_ratio": "21:9"}),
    ],
)
def test_aspect_ratio_of_openrouter(size: tuple[int, int], config: dict[str, str], expected: dict[str, str]) -> None:
    extra = {"image_config": config} if config else {}
    generator = OpenAIChatGenerator("g/m", "https://openrouter.ai/api/v1", api_key=KEY, extra_body=extra)
    body = generator._build_body(request(width=size[0], height=size[1]))
    assert body["image_config"] == expected
    assert "Size of the image" not in str(body)


async def test_unknown_parameters_are_learnt_once(stub: StubServer, make: Make) -> None:
    stub.behaviour.picture_form = "images"
    stub.fault(Fault("unknown_parameter", text="modalities"))
    stub.fault(Fault("unknown_parameter", text="seed"))
    generator = make()
    first = await generator.generate(request())
    assert len(stub.calls("chat")) == 3
    await generator.generate(request())
    assert len(stub.calls("chat")) == 4
    assert not generator.capabilities.seeds
    assert first.seed is None
    assert first.parameters["not_taken"] == ["seed"]


async def test_model_that_only_draws(stub: StubServer, make: Make) -> None:
    """OpenRouter refuses `image, text` for models that answer with images alone."""
    words = "No endpoints found that support the requested output modalities: image, text"
    stub.fault(Fault("refused", status=404, text=words), when=lambda body: body.get("modalities") == ["image", "text"])
    generator = make()
    await generator.generate(request())
    await generator.generate(request())
    assert [call.body["modalities"] for call in stub.calls("chat")] == [["image", "text"], ["image"], ["image"]]


async def test_model_without_images_is_asked_for_none(stub: StubServer, make: Make) -> None:
    words = "No endpoints found that support the requested output modalities: image"
    stub.fault(Fault("refused", status=404, text=words))
    with pytest.raises(ModelUnavailableError, match="output modalities"):
        await make().generate(request())
    assert len(stub.calls("chat")) == 2


@pytest.mark.parametrize(
    ("fault", "error", "text", "asked"),
    [
        (Fault("refusal"), RefusedError, "I cannot help with that", 1),
        (Fault("apology"), RefusedError, "I'm sorry, but I can't help", 1),
        (Fault("content_filter"), RefusedError, "content_filter", 1),
        (Fault.reply("I\u2019m unable to draw images of real people."), RefusedError, "real people", 1),
        (Fault.reply("I can't create images. I'm a language model."), RejectedRequestError, "text instead of", 1),
        (Fault.reply("A red circle on white."), RejectedRequestError, "A red circle on white", 1),
        (Fault("length"), RejectedRequestError, "cut off", 1),
        (Fault("empty"), UnreadableReplyError, "no image and no text", 2),
        (Fault("no_choices"), UnreadableReplyError, "no image", 2),
        (Fault("malformed_json"), UnreadableReplyError, "not a JSON object", 2),
        (Fault("html"), UnreadableReplyError, "not a JSON object", 2),
        (Fault("truncated_png"), InvalidImageError, "truncated", 2),
        (Fault("401"), AuthenticationError, "401", 1),
        (Fault("429"), RateLimitError, "429", 2),
        (Fault("500"), ServerError, "500", 2),
        (Fault("moderated"), RefusedError, "safety system", 1),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else None,
)
async def test_failures(
    fault: Fault, error: type[GemsError], text: str, asked: int, stub: StubServer, make: Make
) -> None:
    stub.fault(fault)
    with pytest.raises(error, match=text):
        await make(attempts=2).generate(request())
    assert len(stub.calls("chat")) == asked


async def test_error_in_a_choice(stub: StubServer, make: Make) -> None:
    """OpenRouter tells a provider's failure within the choice."""
    generator = make()
    choice = {"error": {"code": 400, "message": "Input was flagged for possible violence"}, "message": {"content": ""}}
    found = generator._explain_absence({"choices": [choice]}, choice, choice["message"])
    assert isinstance(found, RefusedError)


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        ({"code": 502, "message": "Provider returned error"}, ServerError),
        ({"code": 401, "message": "No auth"}, AuthenticationError),
        ({"code": "odd", "message": "Provider returned error"}, UnreadableReplyError),
        ("Provider returned error", UnreadableReplyError),
    ],
)
async def test_error_in_a_good_answer(failure: Any, error: type[GemsError], stub: StubServer, make: Make) -> None:
    stub.behaviour.respond = lambda _recorded: JSONResponse({"error": failure})
    with pytest.raises(error, match=r"Provider returned error|No auth"):
        await make(attempts=1).generate(request())


async def test_key_is_not_shown(stub: StubServer, make: Make) -> None:
    stub.fault(Fault.reply(f"Your key {KEY} cannot draw."))
    with pytest.raises(RefusedError) as caught:
        await make(api_key=KEY).generate(request())
    assert KEY not in str(caught.value)
