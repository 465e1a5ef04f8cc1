"""Prices of known models at their providers' own addresses, used where the settings give none.

Source: the providers' pricing pages (developers.openai.com/api/docs/pricing, ai.google.dev/gemini-api/docs/pricing,
platform.claude.com/docs/en/about-claude/pricing) as collected by github.com/pydantic/genai-prices on `DATE`; images
from developers.openai.com/api/docs/models. Long prompts, cached tokens, batches and regions may cost otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from gems.models.specs import ModelSpec

DATE = "2026-08-21"
"""Day of the prices, as messages tell it."""

_CHAT: dict[str, dict[str, tuple[float, float]]] = {
    "openai": {
        "gpt-4.1": (2, 8), "gpt-4.1-mini": (0.4, 1.6), "gpt-4.1-nano": (0.1, 0.4), "gpt-4o": (2.5, 10),
        "gpt-4o-mini": (0.15, 0.6), "gpt-5": (1.25, 10), "gpt-5-mini": (0.25, 2), "gpt-5-nano": (0.05, 0.4),
        "gpt-5.1": (1.25, 10), "gpt-5.2": (1.75, 14), "gpt-5.4": (2.5, 15), "gpt-5.4-mini": (0.75, 4.5),
        "gpt-5.4-nano": (0.2, 1.25), "gpt-5.5": (5, 30), "gpt-5.6-luna": (0.2, 1.2), "gpt-5.6-sol": (5, 30),
        "gpt-5.6-terra": (2, 12),
    },
    "google": {
        "gemini-2.5-flash": (0.3, 2.5), "gemini-2.5-flash-lite": (0.1, 0.4), "gemini-2.5-pro": (1.25, 10),
        "gemini-3-flash-preview": (0.5, 3), "gemini-3-pro-preview": (2, 12), "gemini-3.1-flash-lite": (0.25, 1.5),
        "gemini-3.1-pro-preview": (2, 12), "gemini-3.5-flash": (1.5, 9), "gemini-3.5-flash-lite": (0.3, 2.5),
        "gemini-3.6-flash": (1.5, 7.5), "gemini-3.7-flash": (1.5, 7.5),
    },
    "anthropic": {
        "claude-haiku-4-5": (1, 5), "claude-opus-4-5": (5, 25), "claude-opus-4-6": (5, 25),
        "claude-opus-4-7": (5, 25), "claude-opus-4-8": (5, 25), "claude-opus-5": (5, 25),
        "claude-sonnet-4-5": (3, 15), "claude-sonnet-4-6": (3, 15), "claude-sonnet-5": (3, 15),
    },
}  # fmt: skip
"""US dollars per million input and output tokens."""

_IMAGES: dict[str, dict[str, tuple[float, float]]] = {
    "gpt-image-1": {"low": (0.011, 0.016), "medium": (0.042, 0.063), "high": (0.167, 0.25)},
    "gpt-image-1-mini": {"low": (0.005, 0.006), "medium": (0.011, 0.015), "high": (0.036, 0.052)},
    "gpt-image-1.5": {"low": (0.009, 0.013), "medium": (0.034, 0.051), "high": (0.133, 0.2)},
}
"""US dollars per image of OpenAI's models by quality: square, and wide or tall."""

_CHAT_IMAGES = {
    "gemini-2.5-flash-image": 0.039, "gemini-3-pro-image-preview": 0.134, "gemini-3.1-flash-image-preview": 0.067,
}  # fmt: skip
"""US dollars per image of about one megapixel, for chat models that answer with images."""

_IMAGE_TOKENS = {
    "gpt-image-1": (5, 10, 40), "gpt-image-1-mini": (2, 2.5, 8), "gpt-image-1.5": (5, 8, 32), "gpt-image-2": (5, 8, 30),
}  # fmt: skip
"""US dollars per million tokens of OpenAI's image models: text read, images read, images made."""

_HOSTS = {
    "api.openai.com": "openai", "generativelanguage.googleapis.com": "google", "api.anthropic.com": "anthropic",
}  # fmt: skip
_RESELLERS = {"openrouter.ai", "ai-gateway.vercel.sh"}
"""Hosts that name models `PROVIDER/MODEL` and pass prices through."""
_PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "google_genai": "google", "google_vertexai": "google"}
"""Names of LangChain's providers."""
_SNAPSHOT = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8}|latest)$")


class ChatPrice(NamedTuple):
    """US dollars per million tokens."""

    input_usd: float
    output_usd: float


def find_chat_price(spec: ModelSpec) -> ChatPrice | None:
    """Return the price of a chat model at its provider's own address; None if it is not in the table."""
    if spec.kind == "blocks":
        return ChatPrice(0.0, 0.0)
    provider, name = _find_provider(spec)
    found = _CHAT.get(provider, {}).get(name)
    return None if found is None else ChatPrice(*found)


def find_image_price(spec: ModelSpec, quality: str | None = None) -> float | None:
    """Return US dollars per image, for the dearest of a model's sizes; None if it is not in the table.

    Without a quality, or with `auto`, it is the price of `high`: an upper bound.
    """
    if spec.kind == "blocks":
        return 0.0
    provider, name = _find_provider(spec)
    if spec.kind == "openai-chat":
        return _CHAT_IMAGES.get(name) if provider == "google" else None
    if spec.kind != "openai" or provider != "openai":
        return None
    qualities = _IMAGES.get(name, {})
    found = qualities.get("high" if quality in (None, "auto") else quality)
    return None if found is None else max(found)


def compute_image_cost(model: str, usage: Any) -> float | None:
    """Return US dollars for the tokens that OpenAI counts in its answer; None if either is unknown."""
    prices = _IMAGE_TOKENS.get(_SNAPSHOT.sub("", model))
    if prices is None or not isinstance(usage, Mapping):
        return None
    details, read = usage.get("input_tokens_details"), usage.get("input_tokens")
    text: Any = 0
    images: Any = read
    if isinstance(details, dict):
        text, images = details.get("text_tokens"), details.get("image_tokens")
    counts = [count for count in (text, images, usage.get("output_tokens")) if isinstance(count, int) and count >= 0]
    if len(counts) < len(prices):
        return None
    return float(sum(count * price for count, price in zip(counts, prices, strict=True))) / 1e6


def _find_provider(spec: ModelSpec) -> tuple[str, str]:
    """Return whose prices count for a model, and its name without date; an unknown one for other servers."""
    name = _SNAPSHOT.sub("", spec.model)
    if spec.url is None:
        return (_PROVIDERS.get(spec.provider, "") if spec.kind == "langchain" else "openai"), name
    host = urlsplit(spec.url).hostname or ""
    if host in _RESELLERS:
        owner, _, name = name.partition("/")
        return owner, name
    return _HOSTS.get(host, ""), name
