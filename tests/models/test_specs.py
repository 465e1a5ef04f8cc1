"""Model specs, good and bad."""

from __future__ import annotations

import time

import pytest

from gems.errors import ModelSpecError
from gems.models.specs import ModelSpec, parse_chat_spec, parse_detector_spec, parse_generator_spec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("blocks", ModelSpec("blocks")),
        (" blocks\n", ModelSpec("blocks")),
        ("openai:gpt-5", ModelSpec("openai", "gpt-5")),
        ("openai:qwen3-vl@http://host:8000/v1", ModelSpec("openai", "qwen3-vl", "http://host:8000/v1")),
        ("openai:qwen3-vl@https://host/v1/", ModelSpec("openai", "qwen3-vl", "https://host/v1")),
        ("openai:Qwen/Qwen3@v2@http://[::1]:8000/v1", ModelSpec("openai", "Qwen/Qwen3@v2", "http://[::1]:8000/v1")),
        ("openai:vendor/model:free", ModelSpec("openai", "vendor/model:free")),
        ("openai:model@sha256", ModelSpec("openai", "model@sha256")),
        ("langchain:anthropic:claude-x", ModelSpec("langchain", "claude-x", provider="anthropic")),
        ("langchain:Google-GenAI:gemini-x", ModelSpec("langchain", "gemini-x", provider="google_genai")),
        ("langchain:ollama:qwen3-vl:8b", ModelSpec("langchain", "qwen3-vl:8b", provider="ollama")),
        ("langchain:ollama:hf.co/a/b:Q4", ModelSpec("langchain", "hf.co/a/b:Q4", provider="ollama")),
        (
            "langchain:ollama:qwen3-vl:8b@http://[::1]:11434/",
            ModelSpec("langchain", "qwen3-vl:8b", "http://[::1]:11434", "ollama"),
        ),
    ],
)
def test_chat_models(text: str, expected: ModelSpec) -> None:
    assert parse_chat_spec(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("blocks", ModelSpec("blocks")),
        ("blocks:good", ModelSpec("blocks", "good")),
        (" blocks:poor", ModelSpec("blocks", "poor")),
        ("diffusers:z-image-turbo", ModelSpec("diffusers", "z-image-turbo")),
        ("diffusers:./models/mine@http", ModelSpec("diffusers", "./models/mine@http")),
        ("diffusers:C:\\models\\mine", ModelSpec("diffusers", "C:\\models\\mine")),
        ("openai:gpt-image-1", ModelSpec("openai", "gpt-image-1")),
        ("http:http://host:8000/generate", ModelSpec("http", url="http://host:8000/generate")),
        ("http:https://host/generate?x=1", ModelSpec("http", url="https://host/generate?x=1")),
        ("comfyui:flows/flux.json", ModelSpec("comfyui", "flows/flux.json")),
        ("comfyui:C:\\a@b.json@http://h:8188/", ModelSpec("comfyui", "C:\\a@b.json", "http://h:8188")),
        ("comfyui:~/w.json@https://host/comfy", ModelSpec("comfyui", "~/w.json", "https://host/comfy")),
        ("a1111:http://127.0.0.1:7860/", ModelSpec("a1111", url="http://127.0.0.1:7860")),
        ("openai-chat:google/gemini@https://host/v1", ModelSpec("openai-chat", "google/gemini", "https://host/v1")),
    ],
)
def test_generators(text: str, expected: ModelSpec) -> None:
    assert parse_generator_spec(text) == expected


BAD = [
    "",
    "   ",
    "blocks:small",
    "blocks:",
    "blocks:poor:good",
    "Blocks",
    "gpt-5",
    "openai",
    "openai:",
    "openai:@http://host/v1",
    "openai:model@http://",
    "openai:model@http:///v1",
    "openai:model@httpx://host",
    "openai:model@localhost:8000/v1",
    "openai:model@host/v1",
    "openai-chat:model@host/v1",
    "openai-chat",
    "comfyui:",
    "comfyui:w.json@127.0.0.1:8188",
    "comfyui:@http://host:8188",
    "a1111:",
    "a1111:127.0.0.1:7860",
    "openai:model@ftp://host",
    "openai:model@http://host:port/v1",
    "openai:model@http://host:0/v1",
    "openai:model@http://host:99999/v1",
    "openai:model@http://[::1/v1",
    "anthropic:claude",
    "langchain",
    "langchain:",
    "langchain:anthropic",
    "langchain:anthropic:",
    "langchain::claude",
    "langchain:an thropic:claude",
    "langchain:../x:claude",
    "langchain:anthropic:@http://host",
    "langchain:anthropic:claude@host:8000",
    "langchain:anthropic:claude@ftp://host",
]


@pytest.mark.parametrize("text", [*BAD, "diffusers:z-image-turbo", "http:http://host/generate"])
def test_what_is_no_chat_model(text: str) -> None:
    with pytest.raises(ModelSpecError) as caught:
        parse_chat_spec(text)
    assert "openai:MODEL[@BASE_URL]" in caught.value.hint


@pytest.mark.parametrize(
    "text", [*BAD, "langchain:ollama:m", "diffusers:", "http:", "http://host/generate", "http:ftp://host/x"]
)
def test_what_is_no_generator(text: str) -> None:
    with pytest.raises(ModelSpecError) as caught:
        parse_generator_spec(text)
    assert "diffusers:NAME_OR_DIR" in caught.value.hint


@pytest.mark.parametrize(
    "url", ["http://user:tops3cret@host/v1", "http://user:tops3cret@/v1", "http://user:tops3cret@host:port/v1"]
)
def test_a_password_in_an_address_is_refused_and_not_repeated(url: str) -> None:
    for parse, text in ((parse_chat_spec, f"openai:m@{url}"), (parse_generator_spec, f"http:{url}")):
        with pytest.raises(ModelSpecError) as caught:
            parse(text)
        assert "tops3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["blocks", "diffusers:z-image-turbo", "openai:m@http://host/v1", "openai:m", "http:http://host/generate"]
)
def test_a_spec_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_generator_spec(text)) == text


@pytest.mark.parametrize("text", ["langchain:ollama:qwen3-vl:8b@http://host:11434", "langchain:anthropic:claude-x"])
def test_a_spec_of_langchain_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_chat_spec(text)) == text


def test_base_url_with_a_query_is_refused_without_repeating_it() -> None:
    with pytest.raises(ModelSpecError) as caught:
        parse_chat_spec("openai:m@http://host/v1?token=sesame")
    assert "sesame" not in str(caught.value)


def test_many_at_signs_take_no_time() -> None:
    started = time.process_time()
    assert parse_chat_spec("openai:" + "@" * 50_000).url is None
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("off", ModelSpec("off")),
        ("blocks", ModelSpec("blocks")),
        ("blocks:0.1", ModelSpec("blocks", "0.1")),
        ("blocks:1", ModelSpec("blocks", "1")),
        ("transformers:google/owlv2", ModelSpec("transformers", "google/owlv2")),
        ("http:http://host:8000/detect/", ModelSpec("http", url="http://host:8000/detect")),
    ],
)
def test_detectors(text: str, expected: ModelSpec) -> None:
    assert parse_detector_spec(text) == expected


@pytest.mark.parametrize(
    "text", ["", "on", "blocks:", "blocks:2", "blocks:-0.1", "blocks:nan", "transformers:", "http:host", "openai:m"]
)
def test_detectors_that_are_none(text: str) -> None:
    with pytest.raises(ModelSpecError, match=r"detector"):
        parse_detector_spec(text)
