"""Features of chat endpoints, and fallbacks after a rejected request."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from gems.errors import ConfigurationError, GemsError, RejectedRequestError, TooManyImagesError
from gems.models.chat.messages import Question

_TOO_LONG = re.compile(r"(?i)context[ _]length|context window|too (?:long|large)|maximum context|answered 413")
FEATURES = ("json_schema", "json_mode", "logprobs", "temperature", "max_tokens")
_MENTIONS = {
    "logprobs": re.compile(r"logprob"),
    "temperature": re.compile(r"temperature"),
    "max_tokens": re.compile(r"max_tokens|max_completion_tokens"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatLimits:
    """Settings of a chat endpoint.

    `timeout_s` covers one whole response; `attempts` counts per request and applies to retryable errors.
    `temperature` and `max_tokens` are None for the endpoint's default, `image_side` (longest side in pixels)
    for the default of the role. Prices are US dollars per token, None if unknown.
    """

    concurrency: int = 8
    timeout_s: float = 120.0
    attempts: int = 4
    first_wait_s: float = 0.5
    temperature: float | None = None
    max_tokens: int | None = None
    logprobs: bool = True
    image_side: int | None = None
    input_usd: float | None = None
    output_usd: float | None = None


def structured_mode(refused: set[str]) -> str:
    """Return the best mode for structured replies not refused yet: `json_schema`, `json_mode` or `text`."""
    return next((mode for mode in ("json_schema", "json_mode") if mode not in refused), "text")


def response_format(form: type[BaseModel], mode: str) -> dict[str, Any]:
    """Return the request field for replies of the schema `form`; `mode` is `json_schema` or `json_mode`."""
    if mode == "json_mode":
        return {"type": "json_object"}
    schema = _make_strict(form.model_json_schema())
    return {"type": "json_schema", "json_schema": {"name": form.__name__, "schema": schema, "strict": True}}


def _make_strict(schema: Any) -> Any:
    """Convert a JSON schema to OpenAI's strict mode: all fields required, no others, no defaults."""
    if isinstance(schema, list):
        return [_make_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _make_strict(value) for key, value in schema.items() if key not in ("default", "title")}
    if "properties" in schema:
        kept["properties"] = {name: _make_strict(value) for name, value in schema["properties"].items()}
        kept |= {"required": list(schema["properties"]), "additionalProperties": False}
    return kept


def reduce_pictures(error: GemsError, pictures: int, shown: int | None) -> int | None:
    """Return how many images to send after `error`; None if they are not the cause. Raises below 1."""
    sent = pictures if shown is None else min(pictures, shown)
    if isinstance(error, TooManyImagesError):
        limit = error.limit if error.limit is not None else sent // 2
        if limit < 1:
            raise ConfigurationError(
                f"The model accepts no images: {error.message}", hint="Choose a vision model."
            ) from error
        return min(limit, sent - 1) if sent > 1 else None
    if sent > 1 and isinstance(error, RejectedRequestError) and _TOO_LONG.search(error.message):
        return sent // 2
    return None


def find_feature_to_drop(error: GemsError, question: Question, refused: set[str], limits: ChatLimits) -> str | None:
    """Return the feature to leave out after `error`; None if none is left that could be the cause."""
    sent = {
        "logprobs": question.logprobs and limits.logprobs,
        "temperature": question.temperature is not None or limits.temperature is not None,
        "max_tokens": question.max_tokens is not None or limits.max_tokens is not None,
    }
    rejected = isinstance(error, RejectedRequestError)
    for feature, mention in _MENTIONS.items():
        if rejected and sent[feature] and feature not in refused and mention.search(error.message):
            return feature
    mode = structured_mode(refused)
    if question.reply is not None and mode != "text":
        return mode
    return "logprobs" if rejected and sent["logprobs"] and "logprobs" not in refused else None
