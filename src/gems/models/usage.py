"""Sums of usage."""

from __future__ import annotations

from collections.abc import Mapping

from gems.types import Usage

NO_USAGE: Usage = {
    "calls": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "images_sent": 0,
    "image_bytes_sent": 0,
    "seconds": 0.0,
    "usd": 0.0,
}


def add_usage(first: Usage, second: Usage) -> Usage:
    """Add two usages; the price is unknown if either is."""
    known = first["usd"] is not None and second["usd"] is not None
    return {
        "calls": first["calls"] + second["calls"],
        "input_tokens": first["input_tokens"] + second["input_tokens"],
        "output_tokens": first["output_tokens"] + second["output_tokens"],
        "images_sent": first["images_sent"] + second["images_sent"],
        "image_bytes_sent": first["image_bytes_sent"] + second["image_bytes_sent"],
        "seconds": first["seconds"] + second["seconds"],
        "usd": (first["usd"] or 0.0) + (second["usd"] or 0.0) if known else None,
    }


def merge_usage(first: Mapping[str, Usage] | None, second: Mapping[str, Usage] | None) -> dict[str, Usage]:
    """Add usages by role or model."""
    total = dict(first or {})
    for name, usage in (second or {}).items():
        total[name] = add_usage(total.get(name, NO_USAGE), usage)
    return total


def spent_usd(usage: dict[str, Usage]) -> float | None:
    """Return the US dollars spent so far; None if a price is unknown."""
    prices = [share["usd"] for share in usage.values()]
    return None if None in prices else sum(price for price in prices if price is not None)
