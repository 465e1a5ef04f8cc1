"""What to change about a request that an endpoint refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from gems.errors import ConfigurationError, GemsError, RejectedRequestError, TooManyImagesError
from gems.models.chat.messages import Question

_TOO_LONG = re.compile(
    r"(?i)context[ _]length|context window|too (?:long|large)|maximum context|answered 413"
)
FEATURES = ("json_schema", "json_mode", "logprobs", "temperature", "max_tokens")
_MENTIONS = {
    "logprobs": re.compile(r"logprob"),
    "temperature": re.compile(r"temperature"),
    "max_tokens": re.compile(r"max_tokens|max_completion_tokens"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatLimits:
    """How a chat endpoint is to be treated.

    Attributes:
        concurrency: Requests at a time.
        timeout_s: Seconds for one answer, from first to last byte.
        attempts: Tries per request, where trying again can help.
        first_wait_s: Seconds before the second try.
        temperature: None for the endpoint's own.
        max_tokens: None for the endpoint's own.
        logprobs: Whether to ask for the probability of yes.
        image_side: Longest side in pixels of images shown to it; None for what suits its role.
        input_usd: US dollars per input token; None where not known.
        output_usd: US dollars per output token; None where not known.
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
    """The best way to ask for structured answers that was not refused: `json_schema`, `json_mode`, `text`."""
    return next((mode for mode in ("json_schema", "json_mode") if mode not in refused), "text")


def response_format(form: type[BaseModel], mode: str) -> dict[str, Any]:
    """The request field that asks for answers of the given form; `mode` as `structured_mode` gives it."""
    if mode == "json_mode":
        return {"type": "json_object"}
    schema = _strict(form.model_json_schema())
    return {"type": "json_schema", "json_schema": {"name": form.__name__, "schema": schema, "strict": True}}


def _strict(schema: Any) -> Any:
    """The JSON schema that OpenAI's strict mode takes: all fields required, no others, no defaults."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _strict(value) for key, value in schema.items() if key not in ("default", "title")}
    if "properties" in schema:
        kept["properties"] = {name: _strict(value) for name, value in schema["properties"].items()}
        kept |= {"required": list(schema["properties"]), "additionalProperties": False}
    return kept


def fewer_pictures(error: GemsError, pictures: int, shown: int | None) -> int | None:
    """How many pictures to send next after `error`; None where the pictures are not what is wrong.

    Raises:
        ConfigurationError: the endpoint takes no pictures at all.
    """
    sent = pictures if shown is None else min(pictures, shown)
    if isinstance(error, TooManyImagesError):
        limit = error.limit if error.limit is not None else sent // 2
        if limit < 1:
            raise ConfigurationError(
                f"The model takes no images: {error.message}", hint="Choose a model that sees images."
            ) from error
        return min(limit, sent - 1) if sent > 1 else None
    if sent > 1 and isinstance(error, RejectedRequestError) and _TOO_LONG.search(error.message):
        return sent // 2
    return None


def next_to_leave_out(
    error: GemsError, question: Question, refused: set[str], limits: ChatLimits
) -> str | None:
    """The feature to try without after `error`; None where nothing is left that could help."""
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
