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


def shorten(text: str, limit: int = 300) -> str:
    """At most `limit` characters of `text` on one line."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
