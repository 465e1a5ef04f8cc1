"""What a chat endpoint can do, learnt from what it refuses, and the request that is left when it cannot."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel

FEATURES = (
    "limits",
    "json_schema",
    "json_mode",
    "logprobs",
    "temperature",
    "max_tokens",
    "stream",
    "stream_usage",
    "parts",
    "system",
)
"""What a request has where the endpoint can do it: limits of lengths in a JSON schema, replies by JSON schema or in
JSON mode, log probabilities, a temperature, `max_tokens` by this name, streaming, usage in the stream, texts in lists
of parts, a system message."""
_FEATURES_OF = {
    "json_schema": "json_schema",
    "json_mode": "json_mode",
    "logprobs": "logprobs",
    "temperature": "temperature",
    "max_tokens_name": "max_tokens",
    "stream": "stream",
    "text_only": "parts",
    "no_system": "system",
    "role_order": "system",
}
_LEFT_OUT = frozenset({"default", "title"})
_LIMITS = frozenset({"maxItems", "maxLength"})
_ESCAPES_IN_SHORT_TEXTS = re.compile(r"b\d+-|fp_ollama")
"""The `system_fingerprint` of llama.cpp and Ollama. The grammars that xgrammar 0.2 makes for vLLM and SGLang allow no
escape in a text of limited length, so that no answer could hold a quoted word."""
_FORGOTTEN_AFTER_S = 1800.0
"""Servers are updated, and gateways choose another one behind them."""
_SUSPICIONS = 3
"""Failures in a row with a feature, each followed by success without it, that are no chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatLimits:
    """Settings of a chat endpoint.

    `concurrency` is the most requests at a time, if the endpoint turns out to take so many. `timeout_s` is the longest
    silence: before the first part of a reply and between two parts of it, or of the whole reply where it is not
    streamed. `attempts` counts requests that a rate limit turned away, and others up to three.
    `temperature` and `max_tokens` are None for the endpoint's default (a judge's temperature is 0 then), `image_side`
    (of a square, in pixels) for the default of the role. Prices are US dollars per token, None if unknown.
    """

    concurrency: int = 128
    timeout_s: float = 180.0
    attempts: int = 4
    first_wait_s: float = 0.5
    temperature: float | None = None
    max_tokens: int | None = None
    logprobs: bool = True
    image_side: int | None = None
    input_usd: float | None = None
    output_usd: float | None = None


class Capabilities:
    """What an endpoint lacks, each for half an hour after it was refused.

    Args:
        never: Features that the model's class does not have.
        now: The time in seconds.
    """

    def __init__(self, never: Iterable[str] = (), now: Callable[[], float] = time.monotonic) -> None:
        self._never = frozenset(never)
        self._until: dict[str, float] = {}
        self._suspicions: Counter[str] = Counter()
        self._pictures: tuple[int, float] | None = None
        self._shrunk: tuple[int, float] = (0, 0.0)
        self._now = now
        self.limits_texts = False

    @property
    def lacking(self) -> frozenset[str]:
        """The features to leave out."""
        return self._never | {feature for feature, until in self._until.items() if self._now() < until}

    @property
    def most_pictures(self) -> int | None:
        """Most images in a request; None if no limit is known."""
        most, until = self._pictures or (0, 0.0)
        return most if self._now() < until else None

    @property
    def shrunk(self) -> int:
        """How often the sides of images have to be halved, so that requests fit the context."""
        halvings, until = self._shrunk
        return halvings if self._now() < until else 0

    def learn(self, features: Iterable[str], pictures: int | None = None, shrunk: int = 0) -> None:
        """Remember what was refused; called once a request without it succeeded."""
        until = self._now() + _FORGOTTEN_AFTER_S
        self._until |= dict.fromkeys(features, until)
        if pictures is not None:
            self._pictures = pictures, until
        if shrunk:
            self._shrunk = shrunk, until

    def suspect(self, features: Iterable[str], cleared: Iterable[str] = ()) -> None:
        """Remember features with which an endpoint failed and without which it succeeded, and those that it can do."""
        for feature in cleared:
            del self._suspicions[feature]
        self._suspicions.update(features)
        learnt = [feature for feature, count in self._suspicions.items() if count >= _SUSPICIONS]
        self.learn(learnt)
        for feature in learnt:
            del self._suspicions[feature]

    def note_server(self, fingerprint: object) -> None:
        """Remember by the `system_fingerprint` of a reply whether the server can limit the lengths of texts."""
        self.limits_texts = isinstance(fingerprint, str) and bool(_ESCAPES_IN_SHORT_TEXTS.match(fingerprint))


def feature_of(
    refused: str, lacking: Iterable[str], form: type[BaseModel] | None = None, *, limits_texts: bool = False
) -> str | None:
    """Return the feature to leave out after a refusal, which is a kind of `gems.models.refusals`.

    Where a schema of `form` is sent without limits anyway, only the whole of it is left to leave out.
    """
    if refused == "this_schema":
        return "limits" if "limits" not in lacking and sends_limits(form, limits_texts) else "json_schema"
    if refused == "response_format":
        mode = structured_mode(lacking)
        return None if mode == "text" else mode
    return _FEATURES_OF.get(refused)


def structured_mode(lacking: Iterable[str]) -> str:
    """Return the best mode for structured replies that is not lacking: `json_schema`, `json_mode` or `text`."""
    return next((mode for mode in ("json_schema", "json_mode") if mode not in lacking), "text")


@cache
def sends_limits(form: type[BaseModel] | None, limits_texts: bool) -> bool:
    """Return whether the schema that is sent for `form` limits the lengths of texts or lists."""
    if form is None:
        return False
    limited = response_format(form, "json_schema", limits_texts=limits_texts)
    return limited != response_format(form, "json_schema", limits=False)


@cache
def response_format(
    form: type[BaseModel], mode: str, *, limits: bool = True, limits_texts: bool = False
) -> dict[str, Any]:
    """Return the request field for replies of the schema `form`; `mode` is `json_schema` or `json_mode`.

    The schema has `maxItems` with `limits`, and `maxLength` too with `limits_texts`. It is shared: do not change it.
    """
    if mode == "json_mode":
        return {"type": "json_object"}
    schema = form.model_json_schema()
    left_out = _LEFT_OUT | (_LIMITS if not limits else set() if limits_texts else {"maxLength"})
    strict = _make_strict(schema, schema.pop("$defs", {}), left_out)
    return {"type": "json_schema", "json_schema": {"name": form.__name__, "schema": strict, "strict": True}}


def _make_strict(schema: Any, definitions: dict[str, Any], left_out: frozenset[str]) -> Any:
    """Convert a JSON schema to OpenAI's strict mode: all fields required, no others, no defaults, no references."""
    if isinstance(schema, list):
        return [_make_strict(item, definitions, left_out) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if reference := schema.get("$ref"):
        about = {key: value for key, value in schema.items() if key != "$ref"}
        return _make_strict(definitions[reference.rpartition("/")[2]] | about, definitions, left_out)
    kept = {key: _make_strict(value, definitions, left_out) for key, value in schema.items() if key not in left_out}
    if "properties" in schema:
        fields = schema["properties"].items()
        kept["properties"] = {name: _make_strict(value, definitions, left_out) for name, value in fields}
        kept |= {"required": list(schema["properties"]), "additionalProperties": False}
    return kept
