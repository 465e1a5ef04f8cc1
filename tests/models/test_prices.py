"""Prices of known models, at their providers only."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gems.generation import ImageRequest
from gems.models.factory import open_chat, open_generator
from gems.models.generators.openai import OpenAIImagesGenerator
from gems.models.prices import compute_image_cost, find_chat_price, find_image_price
from gems.models.specs import parse_chat_spec, parse_generator_spec
from gems.settings import ChatSettings, GeneratorSettings


@pytest.mark.parametrize(
    ("spec", "price"),
    [
        ("blocks", (0, 0)),
        ("openai:gpt-5", (1.25, 10)),
        ("openai:gpt-5-mini-2025-08-07", (0.25, 2)),
        ("openai:gpt-5@https://api.openai.com/v1", (1.25, 10)),
        ("openai:gemini-2.5-flash@https://generativelanguage.googleapis.com/v1beta/openai", (0.3, 2.5)),
        ("openai:anthropic/claude-sonnet-5@https://openrouter.ai/api/v1", (3, 15)),
        ("langchain:anthropic:claude-opus-5", (5, 25)),
        ("openai:gpt-5@http://127.0.0.1:8000/v1", None),
        ("openai:gpt-5@https://api.openai.com.example.org/v1", None),
        ("openai:openai/gpt-5@https://gateway.example.org/v1", None),
        ("openai:gpt-5-turbo-next", None),
        ("langchain:ollama:gpt-5", None),
    ],
)
def test_chat(spec: str, price: tuple[float, float] | None) -> None:
    assert find_chat_price(parse_chat_spec(spec)) == price


@pytest.mark.parametrize(
    ("spec", "quality", "price"),
    [
        ("blocks", None, 0),
        ("openai:gpt-image-1", None, 0.25),
        ("openai:gpt-image-1", "auto", 0.25),
        ("openai:gpt-image-1-mini", "low", 0.006),
        ("openai:gpt-image-1.5-2025-12-16", "medium", 0.051),
        ("openai:gpt-image-1", "hd", None),
        ("openai:gpt-image-2", "low", None),
        ("openai:gpt-image-1@http://127.0.0.1:8000/v1", "low", None),
        ("openai-chat:google/gemini-2.5-flash-image@https://openrouter.ai/api/v1", None, 0.039),
        ("openai-chat:gpt-image-1", None, None),
        ("diffusers:z-image-turbo", None, None),
        ("a1111:http://127.0.0.1:7860", None, None),
    ],
)
def test_images(spec: str, quality: str | None, price: float | None) -> None:
    assert find_image_price(parse_generator_spec(spec), quality) == price


DETAILS = {"text_tokens": 10, "image_tokens": 40}


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ({"input_tokens": 50, "input_tokens_details": DETAILS, "output_tokens": 1056}, 0.04269),
        ({"input_tokens": 50, "output_tokens": 1056}, 0.04274),
        ({"input_tokens": 50}, None),
        ({"input_tokens": "50", "output_tokens": 1}, None),
        (None, None),
    ],
)
def test_cost_of_counted_tokens(usage: Any, cost: float | None) -> None:
    assert compute_image_cost("gpt-image-1", usage) == (cost and pytest.approx(cost))
    assert compute_image_cost("other", usage) is None


def test_settings_override_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    assert open_chat(ChatSettings(model="openai:gpt-5")).price(1_000_000, 1_000_000) == pytest.approx(11.25)
    own = ChatSettings(model="openai:gpt-5", input_usd_per_million=1, output_usd_per_million=2)
    assert open_chat(own).price(1_000_000, 1_000_000) == pytest.approx(3)
    # Half a price of one's own and half of the table would be neither.
    half = ChatSettings(model="openai:gpt-5", input_usd_per_million=1)
    assert open_chat(half).price(1, 1) is None
    drawing = GeneratorSettings(model="openai:gpt-image-1", quality="low")
    assert open_generator(drawing).capabilities.price_usd == 0.016
    assert open_generator(drawing.model_copy(update={"usd_per_image": 0.5})).capabilities.price_usd == 0.5


def test_counted_tokens_are_the_cost_of_an_image() -> None:
    request = ImageRequest(prompt="a red circle", seed=1, width=1024, height=1024)
    answer = {"data": [{"b64_json": "aGVsbG8="}], "usage": {"input_tokens": 50, "output_tokens": 1056}}
    costs = []
    for price in (None, 0.5):
        generator = OpenAIImagesGenerator("gpt-image-1", api_key="sk-test-0123456789abcdef", price_usd=price)
        costs.append(generator._read_image(request, {}, json.dumps(answer).encode()).parameters.get("cost_usd"))
    assert costs == [pytest.approx(0.04274), None]
