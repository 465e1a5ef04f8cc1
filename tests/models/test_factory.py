"""Models from settings; no request is made but to the stub."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from gems.errors import ConfigurationError, MissingExtraError, ModelSpecError
from gems.generation import ImageRequest
from gems.models import factory
from gems.models.base import ImageGenerator
from gems.models.chat.client import ChatClient
from gems.models.chat.messages import Question
from gems.models.chat.vision import red_square
from gems.models.detectors.base import DetectionRequest
from gems.models.factory import open_chat, open_detector, open_generator
from gems.settings import ChatSettings, GeneratorSettings, Settings
from tests.support.a1111_server import serving_a1111
from tests.support.detectors import serving_detector
from tests.support.stub import StubServer
from tests.support.stub.models import flat_picture

ENVIRONMENT_KEY = "sk-environment-0123456789"
OWN_KEY = "own-tops3cret-value"
QUESTION = Question(task="verify", system="Task: verify", parts=("Is it red?",))
REQUEST = ImageRequest(prompt="a red circle", seed=1, width=64, height=64)


@pytest.fixture
def painter() -> Any:
    with StubServer(chat=lambda _messages: "Yes.", images=flat_picture) as server:
        yield server


async def asked(client: ChatClient) -> None:
    try:
        await client.ask(QUESTION)
    finally:
        await client.aclose()


async def drawn(generator: ImageGenerator) -> None:
    try:
        await generator.generate(REQUEST)
    finally:
        await generator.aclose()


def headers(stub: StubServer) -> str:
    return " ".join(f"{name}: {value}" for call in stub.requests for name, value in call.headers.items())


@pytest.mark.parametrize("kind", ["chat", "openai", "openai-chat", "http"])
async def test_openais_key_goes_to_no_other_host(
    kind: str, painter: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", ENVIRONMENT_KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-environment")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-environment")
    if kind == "chat":
        await asked(open_chat(ChatSettings(model=f"openai:m@{painter.base_url}")))
    else:
        spec = f"http:{painter.generate_url}" if kind == "http" else f"{kind}:m@{painter.base_url}"
        await drawn(open_generator(GeneratorSettings(model=spec)))
    assert len(painter.requests) == 1
    assert "environment" not in headers(painter)


async def test_base_urls_of_the_environment_are_not_followed(
    painter: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StubServer(chat=lambda _messages: "No.") as other:
        monkeypatch.setenv("OPENAI_BASE_URL", other.base_url)
        monkeypatch.setenv("OPENAI_API_BASE", other.base_url)
        await asked(open_chat(ChatSettings(model=f"openai:m@{painter.base_url}")))
        await drawn(open_generator(GeneratorSettings(model=f"openai:m@{painter.base_url}")))
        assert other.requests == []
    assert len(painter.requests) == 2


async def test_a_proxy_of_openais_environment_is_no_obstacle(
    painter: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_PROXY", "http://127.0.0.1:9")
    await asked(open_chat(ChatSettings(model=f"openai:m@{painter.base_url}")))
    assert len(painter.requests) == 1


async def test_a_key_of_ones_own_is_sent(painter: StubServer) -> None:
    painter.behaviour.api_key = OWN_KEY
    key = SecretStr(OWN_KEY)
    await asked(open_chat(ChatSettings(model=f"openai:m@{painter.base_url}", api_key=key)))
    await drawn(open_generator(GeneratorSettings(model=f"openai:m@{painter.base_url}", api_key=key)))
    await drawn(open_generator(GeneratorSettings(model=f"http:{painter.generate_url}", api_key=key)))
    assert headers(painter).count(f"Bearer {OWN_KEY}") == 3


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://api.openai.com/v1", True),
        ("https://API.OpenAI.com/v1", True),
        ("http://api.openai.com/v1", False),
        ("https://api.openai.com.example.org/v1", False),
        ("https://example.org/api.openai.com/v1", False),
        ("https://notapi.openai.com/v1", False),
        ("http://127.0.0.1:9/v1", False),
    ],
)
async def test_where_openais_key_would_go(url: str, sent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", ENVIRONMENT_KEY)
    client = open_chat(ChatSettings(model=f"openai:m@{url}"))
    model: Any = client.model
    assert (model.root_async_client.api_key == ENVIRONMENT_KEY) is sent
    await client.aclose()


@pytest.mark.parametrize("spec", ["openai:gpt-5", "openai:gpt-5@https://api.openai.com/v1"])
def test_openai_needs_a_key(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for opened in (lambda: open_chat(ChatSettings(model=spec)), lambda: open_generator(GeneratorSettings(model=spec))):
        with pytest.raises(ConfigurationError, match="needs an API key") as caught:
            opened()
        assert "OPENAI_API_KEY" in caught.value.hint
    monkeypatch.setenv("OPENAI_API_KEY", "")
    with pytest.raises(ConfigurationError, match="needs an API key"):
        open_chat(ChatSettings(model=spec))


def without(*missing: str) -> Any:
    real = importlib.util.find_spec
    return lambda name, *more: None if name in missing else real(name, *more)


def test_settings_reach_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setattr(factory, "find_spec", lambda _name: object())
    monkeypatch.setattr(factory, "_instantiate", lambda *_names, **options: told.update(options))
    settings = GeneratorSettings(
        model="diffusers:z-image-turbo", max_batch=2, compile=True, prompt_cache_mb=7, offload="model"
    )
    open_generator(settings)
    names = ("max_batch", "compiled", "prompt_cache_mb", "offload")
    assert [told[name] for name in names] == [2, True, 7, "model"]


@pytest.mark.parametrize("missing", ["torch", "diffusers"])
def test_a_missing_extra_is_named_before_anything_is_loaded(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "find_spec", without(missing))
    with pytest.raises(MissingExtraError) as caught:
        open_generator(GeneratorSettings(model="diffusers:z-image-turbo"))
    assert caught.value.extra == "diffusers"
    assert "pip install 'gems-agent[diffusers]'" in str(caught.value)


def test_nothing_else_needs_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "find_spec", without("torch", "diffusers"))
    for spec in ("blocks", "blocks:poor", "openai:m@http://127.0.0.1:9/v1", "http:http://127.0.0.1:9/generate"):
        assert isinstance(open_generator(GeneratorSettings(model=spec)), ImageGenerator)


def test_bad_specs_are_told_at_once() -> None:
    with pytest.raises(ModelSpecError):
        open_chat(ChatSettings(model="diffusers:z-image-turbo"))
    with pytest.raises(ModelSpecError):
        open_generator(GeneratorSettings(model="gpt-image-1"))


@pytest.fixture
async def client() -> AsyncIterator[ChatClient]:
    settings = ChatSettings(
        model="openai:m@http://127.0.0.1:9/v1",
        timeout_s=3.0,
        concurrency=2,
        attempts=3,
        first_wait_s=0.1,
        temperature=0.5,
        max_tokens=77,
        logprobs=False,
        image_side=200,
        input_usd_per_million=2.0,
        output_usd_per_million=10.0,
    )
    opened = open_chat(settings)
    yield opened
    await opened.aclose()


async def test_settings_reach_the_client(client: ChatClient) -> None:
    limits = client.limits
    assert (limits.timeout_s, limits.concurrency, limits.attempts, limits.first_wait_s) == (3.0, 2, 3, 0.1)
    assert (limits.temperature, limits.max_tokens, limits.logprobs, limits.image_side) == (0.5, 77, False, 200)
    assert client.price(1_000_000, 100_000) == pytest.approx(3.0)
    assert client.structured_output == "json_schema"
    assert client.capabilities.most_pictures is None


async def test_names_hold_no_secret(client: ChatClient) -> None:
    assert client.name == "m at http://127.0.0.1:9/v1"


async def test_unknown_prices_stay_unknown() -> None:
    half = ChatSettings(model="openai:m@http://127.0.0.1:9/v1", input_usd_per_million=1.0)
    client = open_chat(half)
    assert client.price(1, 1) is None
    await client.aclose()
    assert open_chat(ChatSettings()).price(1_000_000, 1_000_000) == 0.0


async def test_extra_body_is_sent_along(painter: StubServer) -> None:
    extra = {"chat_template_kwargs": {"enable_thinking": False}}
    await asked(open_chat(ChatSettings(model=f"openai:m@{painter.base_url}", extra_body=extra)))
    assert painter.requests[0].body["chat_template_kwargs"] == {"enable_thinking": False}
    assert "extra_body" not in painter.requests[0].body


async def test_settings_of_openai_images_are_sent(painter: StubServer) -> None:
    model = f"openai:m@{painter.base_url}"
    fields = {"quality": "low", "background": "transparent", "output_format": "webp", "input_fidelity": "high"}
    await drawn(open_generator(GeneratorSettings(model=model, extra_body={"quality": "high", "user": "me"}, **fields)))
    sent = painter.requests[0].body
    assert {name: sent.get(name) for name in (*fields, "user")} == fields | {"input_fidelity": None, "user": "me"}


async def test_settings_of_a1111_are_sent() -> None:
    with serving_a1111() as server:
        named = {"sampler": "Euler", "checkpoint": "dreamshaper_8", "api_key": SecretStr("ann:secret-word")}
        await drawn(open_generator(GeneratorSettings(model=f"a1111:{server.url}", extra_body={"clip": 2}, **named)))
    sent = server.calls("txt2img")[0]
    assert (sent["sampler_name"], sent["clip"]) == ("Euler", 2)
    assert sent["override_settings"]["sd_model_checkpoint"].startswith("dreamshaper_8")
    assert server.headers[-1]["authorization"].startswith("Basic ")


async def test_settings_reach_the_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_detector(Settings()) is None
    with serving_detector([]) as server:
        settings = Settings(detector=f"http:{server.url}", detector_api_key=SecretStr(OWN_KEY), detector_threshold=0.5)
        detector = open_detector(settings)
        assert detector is not None
        await detector.detect(DetectionRequest(image=red_square(), phrases=("cat",)))
    assert server.headers[0]["authorization"] == f"Bearer {OWN_KEY}"
    assert server.asked[0]["parameters"]["threshold"] == 0.25
    opened = open_detector(Settings(detector="transformers:some/owl", detector_threshold=0.2))
    assert opened is not None
    assert (opened.name, opened.threshold) == ("transformers:owl", 0.2)
    monkeypatch.setattr(factory, "find_spec", without("torch"))
    with pytest.raises(MissingExtraError, match="detect"):
        open_detector(Settings(detector="transformers:some/owl"))
