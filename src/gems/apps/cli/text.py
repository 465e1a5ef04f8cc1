"""Formatting and sanitizing of text for a terminal."""

from __future__ import annotations

from gems.apps.cli.errors import clean


def one_line(text: str, most: int | None = None) -> str:
    """Join lines, and truncate to `most` characters with an ellipsis."""
    line = clean(" ".join(text.split()))
    return (
        line if most is None or len(line) <= most else f"{line[: most - 1].rstrip()}\N{HORIZONTAL ELLIPSIS}"
    )


def pluralize(number: int, noun: str) -> str:
    """Format a count: `1 round`, `2 rounds`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_usd(usd: float) -> str:
    """Format US dollars: to the cent, and amounts below one cent to 0.0001."""
    return f"${usd:,.4f}" if 0 < usd < 0.01 else f"${usd:,.2f}"
