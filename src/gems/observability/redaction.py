"""Keep secrets out of errors and logs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote_plus, urlsplit

_NAMES = re.compile(r"(?i)key|token|secret|passw|auth|credential|signature")
# Written without blanks, with letters and digits, and longer than words and names of models' options are.
_LOOKS_RANDOM = re.compile(r"(?=\S*[A-Za-z])(?=\S*\d)\S{20,}")
_SHORTEST = 4
_BEGINNING = 8
"""Characters of a longer secret that are hidden even where nothing follows."""
_PATTERNS = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), r"\1 [secret]"),
    (re.compile(r"\b(?:sk|pk|rk|hf|gsk|xai|key)[-_][\w*.-]{6,}"), "[secret]"),
    (
        re.compile(
            r"(?i)([\"']?(?:api[-_]?key|token|secret|password|authorization)[\"']?\s*[=:]\s*[\"']?)[^\s\"',&]+"
        ),
        r"\1[secret]",
    ),
    # A user without a password counts too: some servers take a token there. The scheme is bounded, since
    # every letter may begin one.
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://)[^/\s@]+@"), r"\1[secret]@"),
)


def redact(text: str, *secrets: str) -> str:
    """Replace secrets in `text`: the given ones, whole or cut off, others by their usual shapes."""
    text = hide(text, *secrets)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def hide(text: str, *secrets: str) -> str:
    """Replace the given secrets in `text`, and what is left of them where a quotation was cut."""
    # Whole ones first: where two begin alike, the beginning of one would take a part of the other away.
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, "[secret]")
    for secret in secrets:
        if len(secret) >= 2 * _BEGINNING:
            text = _without_beginnings(text, secret)
    return text


def _without_beginnings(text: str, secret: str) -> str:
    at = text.find(secret[:_BEGINNING])
    while at >= 0:
        end = at + _BEGINNING
        while end < len(text) and text[end] == secret[end - at]:
            end += 1
        text = f"{text[:at]}[secret]{text[end:]}"
        at = text.find(secret[:_BEGINNING], at + len("[secret]"))
    return text


def scrub(error: BaseException, *secrets: str) -> None:
    """Redact what an error and those that it came from say: tracebacks end up in logs and traces."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        each.args = tuple(redact(part, *secrets) if isinstance(part, str) else part for part in each.args)
        waiting += [each.__cause__, each.__context__]


def shorten(text: str, limit: int = 300) -> str:
    """At most `limit` characters of `text` on one line."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def secrets_in(values: Any, *, named: bool = False) -> Iterator[str]:
    """The texts among further fields of requests that may be keys: by their name, or by their looks.

    Args:
        values: As in `extra_body`.
        named: Whether what holds them has a name such as `api_key`.
    """
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from secrets_in(value, named=named or _NAMES.search(str(name)) is not None)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from secrets_in(value, named=named)
    elif isinstance(values, str) and (named or _LOOKS_RANDOM.fullmatch(values)):
        yield values


def secrets_of_address(url: str) -> Iterator[str]:
    """The parts of an address that may be keys, as they are written and as they are meant."""
    parts = urlsplit(url)
    user, _, _ = parts.netloc.rpartition("@")
    found = [part for part in user.split(":", 1) if part]
    for pair in parts.query.split("&"):
        name, _, value = pair.partition("=")
        found += secrets_in({name: value})
    for each in found:
        yield from dict.fromkeys((each, unquote_plus(each)))
