"""Remove secrets from text, errors and URLs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from pydantic import SecretStr

from gems.errors import ModelSpecError
from gems.settings import Settings

_SECRET_NAMES = re.compile(r"(?i)key|token|secret|passw|auth|credential|signature")
# Without spaces, with letters and digits, and longer than words and option names.
_LOOKS_RANDOM = re.compile(r"(?=\S*[A-Za-z])(?=\S*\d)\S{20,}")
_VARIABLES = (
    *("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "GOOGLE_API_KEY", "GEMINI_API_KEY"),
    *("OLLAMA_API_KEY", "LANGSMITH_API_KEY", "LANGCHAIN_API_KEY"),
)
"""Variables of the environment that hold keys of models and tracers."""
_MIN_SECRET = 4
_PREFIX = 8
"""Characters of a longer secret that are hidden even if nothing follows."""
_PATTERNS = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), r"\1 [secret]"),
    (re.compile(r"\b(?:(?:sk|pk|rk|hf|gsk|xai|key)[-_][\w*.-]{6,}|AIza[\w-]{20,})"), "[secret]"),
    (
        re.compile(r"(?i)([\"']?(?:api[-_]?key|token|secret|password|authorization)[\"']?\s*[=:]\s*[\"']?)[^\s\"',&]+"),
        r"\1[secret]",
    ),
    # A user without a password counts too: some servers accept a token there. The scheme's length is limited,
    # since any letter may start one.
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://)[^/\s@]+@"), r"\1[secret]@"),
)


def redact(text: str, *secrets: str) -> str:
    """Replace secrets in `text`: the given ones, complete or truncated, and others by their usual shapes."""
    text = hide(text, *secrets)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def hide(text: str, *secrets: str) -> str:
    """Replace the given secrets in `text`, also truncated ones."""
    # Complete ones first: if two share a prefix, hiding the prefix would leave a part of the other.
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _MIN_SECRET:
            text = text.replace(secret, "[secret]")
    for secret in secrets:
        if len(secret) >= 2 * _PREFIX:
            text = _hide_prefixes(text, secret)
    return text


def _hide_prefixes(text: str, secret: str) -> str:
    at = text.find(secret[:_PREFIX])
    while at >= 0:
        end = at + _PREFIX
        while end < len(text) and text[end] == secret[end - at]:
            end += 1
        text = f"{text[:at]}[secret]{text[end:]}"
        at = text.find(secret[:_PREFIX], at + len("[secret]"))
    return text


def scrub(error: BaseException, *secrets: str) -> None:
    """Redact the messages of an error and of its causes: tracebacks end up in logs and traces."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        each = pending.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        each.args = tuple(redact(part, *secrets) if isinstance(part, str) else part for part in each.args)
        pending += [each.__cause__, each.__context__]


def shorten(text: str, limit: int = 300) -> str:
    """Cut `text` to `limit` characters on one line."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def secrets_in(values: Any, *, named: bool = False) -> Iterator[str]:
    """Yield likely keys in extra request fields, by name or shape; `named`: the parent is named so."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from secrets_in(value, named=named or _SECRET_NAMES.search(str(name)) is not None)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from secrets_in(value, named=named)
    elif isinstance(values, str) and (named or _LOOKS_RANDOM.fullmatch(values)):
        yield values


def secrets_of_address(url: str) -> Iterator[str]:
    """Yield the parts of a URL that may be keys, as written and decoded."""
    parts = urlsplit(url)
    user, _, _ = parts.netloc.rpartition("@")
    found = [part for part in user.split(":", 1) if part]
    for pair in parts.query.split("&"):
        name, _, value = pair.partition("=")
        found += secrets_in({name: value})
    for each in found:
        yield from dict.fromkeys((each, unquote_plus(each)))


def display_url(url: str) -> str:
    """Return an HTTP URL without user, password, query and trailing slash; raises `ModelSpecError`."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise ModelSpecError(f"Invalid URL of the image server: {error}.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ModelSpecError("The URL of the image server is incomplete.", hint="Use http://host:port/path.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}{parts.path}".rstrip("/")


def known_secrets(settings: Settings | None) -> tuple[str, ...]:
    """Return the keys in settings and environment, and likely ones in URLs and fields."""
    found = [os.environ.get(name, "") for name in _VARIABLES]
    if settings is not None:
        parts = settings.models()
        given = (
            *(part.api_key for part in parts),
            settings.embedder_api_key,
            settings.detector_api_key,
            settings.checkpoint,
        )
        found += [each.get_secret_value() for each in given if isinstance(each, SecretStr)]
        for part in parts:
            found += secrets_in(part.extra_body)
        checkpoint = settings.checkpoint.get_secret_value() if settings.checkpoint else ""
        models = (part.model.partition(":")[2].rpartition("@http") for part in parts)
        addresses = (f"http{url}" if at else url for _, at, url in models)
        detector = settings.detector.partition(":")[2]
        for address in (*addresses, detector, settings.otel, checkpoint):
            # If it is not a URL, nothing is sent there; its use reports the error.
            with suppress(ValueError):
                found += secrets_of_address(address)
    return tuple(dict.fromkeys(secret for secret in found if secret))
