"""Keep secrets out of errors and logs."""

from __future__ import annotations

import re

_PATTERNS = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), r"\1 [secret]"),
    (re.compile(r"\b(?:sk|pk|rk|hf|gsk|xai|key)[-_][\w*.-]{6,}"), "[secret]"),
    (
        re.compile(
            r"(?i)([\"']?(?:api[-_]?key|token|secret|password|authorization)[\"']?\s*[=:]\s*[\"']?)[^\s\"',&]+"
        ),
        r"\1[secret]",
    ),
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s:@]*:[^/\s@]+@"), r"\1[secret]@"),
)


def redact(text: str, *secrets: str) -> str:
    """Replace secrets in `text`: the given ones exactly, others by their usual shapes."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "[secret]")
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
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
