"""Claude, Gemini and Ollama through LangChain's own classes, against servers that speak their protocols."""

from __future__ import annotations

import base64
import importlib.util
import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from gems.apps.doctor import checkup
from gems.errors import (
    AuthenticationError,
    BlindModelError,
    ConfigurationError,
    ContextExceededError,
    GemsError,
    MissingExtraError,
    ModelSpecError,
    ModelUnavailableError,
    ProviderTimeoutError,
    RateLimitError,
    RefusedError,
    RejectedRequestError,
    ServerError,
    TruncatedReplyError,
    UnreachableError,
    UnreadableReplyError,
)
from gems.models.chat.client import ChatClient
from gems.models.chat.schemas import RequirementsReply
from gems.models.factory import open_chat
from gems.service import Gems
from gems.settings import ChatSettings, GeneratorSettings, Settings
from tests.support.chat_clients import checklist, formed, plain
from tests.support.chat_script import PROMPT, Script, text_of
from tests.support.provider_servers import TOKENS, Failure, Provider, ProviderServer, provider_server
from tests.support.stub import Fault, StubServer
from tests.support.stub.responses import Answer

PACKAGES = {"anthropic": "langchain_anthropic", "google_genai": "langchain_google_genai", "ollama": "langchain_ollama"}
EXTRAS = {"anthropic": "anthropic", "google_genai": "google", "ollama": "ollama"}
ENVIRONMENT = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "GOOGLE_API_KEY", "GEMINI_API_KEY", "OLLAMA_API_KEY")
OWN_KEY = "own-tops3cret-value"
FORM = json.dumps({"requirements": [{"question": "Is it red?", "kind": "color", "parents": []}]})


def needs(provider: str) -> Any:
    absent = importlib.util.find_spec("langchain") is None or importlib.util.find_spec(PACKAGES[provider]) is None
    return pytest.mark.skipif(absent, reason=f"the extra {EXTRAS[provider]} is not installed")


@pytest.fixture(params=[pytest.param(name, marks=needs(name)) for name in PACKAGES])
def provider(request: pytest.FixtureRequest) -> Provider:
    name: Provider = request.param
    return name


@pytest.fixture
def server(provider: Provider) -> Iterator[ProviderServer]:
    with provider_server(provider, lambda _messages: Answer("Yes. It is there.")) as opened:
        yield opened


def client_of(server: ProviderServer, **settings: Any) -> ChatClient:
    quick: dict[str, Any] = {"first_wait_s": 0.001, "timeout_s": 20.0, "attempts": 2}
    return open_chat(ChatSettings(model=server.spec, **(quick | settings)))


@pytest.fixture
async def client(server: ProviderServer) -> AsyncIterator[ChatClient]:
    opened = client_of(server)
    yield opened
    await opened.aclose()


def error_body(provider: str, status: int, message: str) -> dict[str, Any]:
    """The body of an error as this provider writes it."""
    if provider == "anthropic":
        kinds = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
        return {"type": "error", "error": {"type": kinds.get(status, "api_error"), "message": message}}
    if provider == "ollama":
        return {"error": message}
    return {"error": {"code": status, "message": message, "status": "SOMETHING"}}


async def test_answers_in_words(server: ProviderServer, client: ChatClient) -> None:
    reply = await client.ask(plain())
    assert (reply.text, reply.thought) == ("Yes. It is there.", "")
    assert (reply.usage["calls"], reply.usage["input_tokens"], reply.usage["output_tokens"]) == (1, *TOKENS)
    assert len(server.heard) == 1


async def test_answers_in_the_form_asked_for(server: ProviderServer, client: ChatClient) -> None:
    server.mind = lambda _messages: Answer(FORM)
    reply = await client.ask(formed())
    assert isinstance(reply.parsed, RequirementsReply)
    assert reply.parsed.requirements[0].question == "Is it red?"
    # The server is told the form in its own words.
    (body,) = (heard.body for heard in server.heard)
    schema = {
        "anthropic": lambda: body["output_config"]["format"]["schema"],
        "google_genai": lambda: body["generationConfig"]["responseJsonSchema"],
        "ollama": lambda: body["format"],
    }[server.provider]()
    assert list(schema["properties"]) == ["requirements"]


async def test_a_model_without_forms_is_asked_for_text(server: ProviderServer, client: ChatClient) -> None:
    server.mind = lambda _messages: Answer(FORM)
    words = "output_config.format: structured outputs are not supported by this model"
    server.failures = [Failure(400, error_body(server.provider, 400, words))]
    assert (await client.ask(formed())).parsed is not None
    assert (await client.ask(formed())).parsed is not None
    assert client.structured_output != "json_schema"
    assert len(server.heard) == 3


@pytest.mark.parametrize("provider", [pytest.param(name, marks=needs(name)) for name in ("anthropic", "google_genai")])
async def test_a_server_without_streams_is_asked_for_the_whole(server: ProviderServer, client: ChatClient) -> None:
    server.mind = lambda _messages: Answer(FORM)
    server.failures = [Failure(400, error_body(server.provider, 400, "streaming is not supported: stream options"))]
    reply = await client.ask(formed())
    assert reply.parsed is not None
    assert (reply.usage["input_tokens"], reply.usage["output_tokens"]) == TOKENS
    assert len(server.heard) == 2


async def test_pictures_arrive_whole(server: ProviderServer, client: ChatClient) -> None:
    server.mind = lambda _messages: Answer('{"answers": [{"number": 1, "answer": "yes", "evidence": "a circle"}]}')
    asked = checklist(pictures=2)
    await client.ask(asked)
    content = server.heard[0].messages[1]["content"]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    assert [base64.b64decode(url.partition(",")[2]) for url in urls] == [picture.data for picture in asked.pictures]


async def test_settings_arrive_by_the_providers_names(server: ProviderServer) -> None:
    client = client_of(server, temperature=0.5, max_tokens=77)
    await client.ask(plain())
    await client.aclose()
    unset = client_of(server)
    await unset.ask(plain())
    await unset.aclose()
    names = {
        "anthropic": (lambda body: body, "max_tokens"),
        "google_genai": (lambda body: body["generationConfig"], "maxOutputTokens"),
        "ollama": (lambda body: body["options"], "num_predict"),
    }
    where, limit = names[server.provider]
    told, judged = (where(heard.body) for heard in server.heard)
    assert (told["temperature"], told[limit]) == (0.5, 77)
    # The judge's own.
    assert judged["temperature"] == 0.0


async def test_arguments_of_the_class_are_settings(server: ProviderServer) -> None:
    given = {"anthropic": {"top_k": 5}, "google_genai": {"top_k": 5}, "ollama": {"num_ctx": 16384}}[server.provider]
    client = client_of(server, extra_body=given)
    await client.ask(plain())
    await client.aclose()
    body = server.heard[0].body
    options = {"anthropic": body, "google_genai": body.get("generationConfig"), "ollama": body.get("options")}
    assert {"top_k": 5, "topK": 5, "num_ctx": 16384}.items() & options[server.provider].items()


async def test_thoughts_are_no_answers(server: ProviderServer) -> None:
    server.mind = lambda _messages: Answer("No. It is missing.", reasoning="Yes. At first sight it is there.")
    thinking = {"reasoning": True} if server.provider == "ollama" else {}
    client = client_of(server, extra_body=thinking)
    reply = await client.ask(plain())
    await client.aclose()
    assert (reply.text, reply.thought) == ("No. It is missing.", "Yes. At first sight it is there.")


async def test_nothing_but_thought_is_no_answer(server: ProviderServer, client: ChatClient) -> None:
    server.mind = lambda _messages: Answer("", reasoning="Let me see whether there is a circle in this picture")
    with pytest.raises(UnreadableReplyError):
        await client.ask(plain())
    assert len(server.heard) == 2


async def test_long_answers_in_small_pieces_are_whole(server: ProviderServer, client: ChatClient) -> None:
    server.mind = lambda _messages: Answer("Yes. " + "It is there. " * 1500)
    # More than 2 MB are sent, as many lines.
    server.pieces = 1 if server.provider == "ollama" else 4
    assert len((await client.ask(plain())).text) > 19_000


async def test_what_is_cut_off_is_asked_for_with_twice_the_limit(server: ProviderServer, client: ChatClient) -> None:
    server.mind = lambda _messages: Answer("Yes. It i", finish_reason="length")
    with pytest.raises(TruncatedReplyError):
        await client.ask(plain())
    assert len(server.heard) == 2
    again = json.dumps(server.heard[1].body)
    assert f": {2 * TOKENS[1]}" in again


@pytest.mark.parametrize("provider", [pytest.param(name, marks=needs(name)) for name in ("anthropic", "google_genai")])
async def test_a_refusal_is_final(server: ProviderServer, client: ChatClient) -> None:
    server.mind = lambda _messages: Answer("I am", finish_reason="content_filter")
    with pytest.raises(RefusedError):
        await client.ask(plain())
    assert len(server.heard) == 1


@pytest.mark.parametrize("provider", [pytest.param("google_genai", marks=needs("google_genai"))])
async def test_a_blocked_prompt_is_a_refusal(server: ProviderServer, client: ChatClient) -> None:
    usage = {"promptTokenCount": 9, "totalTokenCount": 9}
    server.failures = [Failure(200, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": usage})]
    with pytest.raises(RefusedError, match="PROHIBITED_CONTENT"):
        await client.ask(plain())
    assert len(server.heard) == 1


async def test_a_stream_that_breaks_off_is_no_answer(server: ProviderServer, client: ChatClient) -> None:
    server.cut = True
    with pytest.raises(UnreadableReplyError, match="stream"):
        await client.ask(plain())
    assert len(server.heard) == 2


async def test_silence_within_an_answer_is_a_timeout(server: ProviderServer) -> None:
    server.stalls = True
    client = client_of(server, timeout_s=0.3)
    with pytest.raises(ProviderTimeoutError):
        await client.ask(plain())
    await client.aclose()
    # A busy machine may give a request up before the server has heard it.
    assert len(server.heard) <= 2


@pytest.mark.parametrize(
    ("status", "words", "expected", "requests"),
    [
        (401, "invalid x-api-key", AuthenticationError, 1),
        (403, "Your key may not use this.", AuthenticationError, 1),
        (404, "model: test-model", ModelUnavailableError, 1),
        (408, "It took too long.", ProviderTimeoutError, 2),
        (413, "Request exceeds the maximum size", ContextExceededError, 3),
        (400, "prompt is too long: 300000 tokens > 200000 maximum", ContextExceededError, 3),
        (400, "Your credit balance is too low", ModelUnavailableError, 1),
        (400, "API key not valid. Please pass a valid API key.", AuthenticationError, 1),
        (400, "This model does not support image input: image input is not supported", BlindModelError, 1),
        (400, "Something is odd.", RejectedRequestError, 3),
        (429, "Slow down.", RateLimitError, 2),
        (500, "Internal error", ServerError, 2),
        (503, "Try later.", ServerError, 2),
        (529, "Overloaded", ServerError, 2),
    ],
)
async def test_every_status_has_its_error(
    server: ProviderServer, status: int, words: str, expected: type[GemsError], requests: int
) -> None:
    server.failures = [Failure(status, error_body(server.provider, status, words))] * 9
    client = client_of(server)
    with pytest.raises(GemsError) as caught:
        await client.ask(plain())
    await client.aclose()
    assert (type(caught.value), len(server.heard)) == (expected, requests)
    assert caught.value.message.startswith(f"test-model at {server.url} answered {status}: {words}")


async def test_an_error_within_the_answer_is_the_servers(server: ProviderServer, client: ChatClient) -> None:
    server.failures = [Failure(200, error_body(server.provider, 529, "Overloaded"))] * 9
    with pytest.raises(ServerError, match="Overloaded"):
        await client.ask(plain())
    assert len(server.heard) == 2


async def test_an_error_that_passes_is_survived(server: ProviderServer, client: ChatClient) -> None:
    server.failures = [Failure(529, error_body(server.provider, 529, "Overloaded"))]
    assert (await client.ask(plain())).text == "Yes. It is there."


@pytest.mark.parametrize("provider", [pytest.param(name, marks=needs(name)) for name in ("anthropic", "google_genai")])
async def test_the_time_to_wait_is_read(server: ProviderServer, client: ChatClient) -> None:
    body = error_body(server.provider, 429, "Slow down.")
    headers = {"retry-after": "3600"}
    if server.provider == "google_genai":
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        body["error"]["details"] = [{"@type": kind, "retryDelay": "3600s"}]
        headers = {}
    server.failures = [Failure(429, body, headers)]
    with pytest.raises(RateLimitError) as caught:
        await client.ask(plain())
    assert (caught.value.retry_after, len(server.heard)) == (3600.0, 1)


async def test_nobody_at_the_address(provider: Provider) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    spec = f"langchain:{provider}:test-model@{url}"
    client = open_chat(ChatSettings(model=spec, attempts=1, timeout_s=20.0))
    with pytest.raises(UnreachableError, match=r"(?i)connection attempts failed|failed to connect"):
        await client.ask(plain())
    await client.aclose()


async def test_the_environments_keys_stay_away_from_named_addresses(
    server: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, f"environment-{name}")
    # Named servers on this machine are not asked through a proxy.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    client = client_of(server)
    await client.ask(plain())
    await client.aclose()
    assert "environment" not in json.dumps(server.heard[0])


async def test_a_key_of_ones_own_is_sent_and_never_shown(server: ProviderServer) -> None:
    words = f"The key {OWN_KEY} is not known."
    server.failures = [Failure(401, error_body(server.provider, 401, words))]
    client = client_of(server, api_key=SecretStr(OWN_KEY))
    with pytest.raises(AuthenticationError) as caught:
        await client.ask(plain())
    await client.aclose()
    assert OWN_KEY in json.dumps(server.heard[0].headers)
    assert OWN_KEY not in str(caught.value)


def test_keys_of_the_environment_are_redacted(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "environment-tops3cret")
    opened = importlib.import_module("gems.models.chat.langchain").open_langchain_model
    spec = importlib.import_module("gems.models.specs").parse_chat_spec(f"langchain:{provider}:test-model")
    keys = () if provider == "ollama" else ("environment-tops3cret",)
    assert opened(spec, ChatSettings()).secrets == keys


def test_a_missing_key_is_told_before_a_request(provider: Provider) -> None:
    if provider == "ollama":
        assert open_chat(ChatSettings(model="langchain:ollama:test-model")).name == "test-model at ollama"
        return
    with pytest.raises(ConfigurationError, match="needs an API key") as caught:
        open_chat(ChatSettings(model=f"langchain:{provider}:test-model"))
    assert "_API_KEY, or GEMS_CHAT__API_KEY" in caught.value.hint


@needs("anthropic")
@pytest.mark.parametrize(
    ("spec", "extra", "expected", "words"),
    [
        ("langchain:nobody:model", {}, ModelSpecError, "nobody"),
        ("langchain:groq:model", {}, ConfigurationError, "langchain-groq"),
        ("langchain:anthropic:model@http://127.0.0.1:9", {"top_k": OWN_KEY}, ConfigurationError, "top_k"),
    ],
)
def test_what_cannot_be_opened(spec: str, extra: dict[str, Any], expected: type[GemsError], words: str) -> None:
    with pytest.raises(expected, match=words) as caught:
        open_chat(ChatSettings(model=spec, extra_body=extra))
    assert OWN_KEY not in str(caught.value)


@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.parametrize("missing", ["langchain", "own"])
def test_a_missing_extra_is_named(name: str, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = PACKAGES[name] if missing == "own" else missing
    module = importlib.import_module("gems.models.chat.langchain")
    monkeypatch.setattr(module, "find_spec", lambda wanted: None if wanted == absent else object())
    with pytest.raises(MissingExtraError) as caught:
        open_chat(ChatSettings(model=f"langchain:{name}:model"))
    assert f"gems-agent[{EXTRAS[name]}]" in caught.value.hint


async def test_a_whole_run(server: ProviderServer, tmp_path: Path) -> None:
    script = Script(reflections=1)

    def mind(messages: list[dict[str, Any]]) -> Answer:
        # Before the first image the judge is shown a red square.
        return Answer("Red.") if "big square" in text_of(messages[-1]) else script(messages)

    server.mind = mind
    thinking = {"reasoning": True} if server.provider == "ollama" else {}
    chat = ChatSettings(
        model=server.spec, timeout_s=20.0, first_wait_s=0.01, extra_body=thinking,
        input_usd_per_million=1.0, output_usd_per_million=2.0,
    )  # fmt: skip
    settings = Settings(home=tmp_path / "home", chat=chat, generator=GeneratorSettings(), experience="off")
    async with Gems(settings, skills=()) as gems:
        result = await gems.run(PROMPT, seed=7)
    assert (result.passed, len(result.rounds), result.warnings) == (True, 2, [])
    usages = [result.usage[role] for role in ("planner", "judge", "reflector")]
    assert sum(usage["calls"] for usage in usages) == len(server.heard)
    assert sum(usage["input_tokens"] for usage in usages) == TOKENS[0] * len(server.heard)
    usd = len(server.heard) * (TOKENS[0] + 2 * TOKENS[1]) / 1e6
    assert sum(usage["usd"] or 0.0 for usage in usages) == pytest.approx(usd)


async def test_the_doctor_says_what_is_wrong(provider: Provider, server: ProviderServer, tmp_path: Path) -> None:
    server.failures = [Failure(401, error_body(provider, 401, "invalid x-api-key"))]
    settings = Settings(home=tmp_path / "home", chat=ChatSettings(model=server.spec), experience="off")
    found = [check async for check in checkup(lambda: settings, draw=False) if check.name.startswith("chat model")]
    assert (found[0].status, found[0].hint) == ("failed", "Check the API key in the settings.")
    assert found[0].detail == f"test-model at {server.url} answered 401: invalid x-api-key"
    assert {check.status for check in found[1:]} == {"skipped"}


@pytest.mark.skipif(importlib.util.find_spec("langchain") is None, reason="langchain is not installed")
async def test_any_other_provider_is_asked_for_text(stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment-0123456789")
    spec = f"langchain:openai:stub@{stub.base_url}"
    client = open_chat(ChatSettings(model=spec, temperature=0.5, max_tokens=500, timeout_s=20.0))
    reply = await client.ask(formed())
    assert isinstance(reply.parsed, RequirementsReply)
    await client.aclose()
    (call,) = stub.requests
    assert "environment" not in json.dumps(dict(call.headers))
    assert call.body["temperature"] == 0.5
    assert {"response_format", "logprobs", "stream"} & {name for name, value in call.body.items() if value} == set()
    # The number of requests is ours, also where a server fails.
    stub.fault(Fault("500"))
    client = open_chat(ChatSettings(model=spec, attempts=1, timeout_s=20.0))
    with pytest.raises(ServerError):
        await client.ask(plain())
    await client.aclose()
    assert len(stub.requests) == 2


async def test_two_event_loops_one_after_the_other(server: ProviderServer) -> None:
    import asyncio

    async def ask() -> str:
        client = client_of(server)
        try:
            return (await client.ask(plain())).text
        finally:
            await client.aclose()

    said = [await asyncio.to_thread(asyncio.run, ask()) for _ in range(2)]
    assert said == ["Yes. It is there."] * 2
