"""LongText-Bench: split texts into units and compare them."""

from __future__ import annotations

from collections.abc import Sequence

from gems.evals.benchmarks.metrics import TextMatch, match_units, normalize_text


def split_units(text: str, language: str) -> Sequence[str]:
    """Return the units of a text: lower-case words, or characters in Chinese."""
    if language == "zh":
        return normalize_text(text).replace(" ", "")
    return normalize_text(text).lower().split()


def compare_words(found: str, expected: Sequence[str], language: str) -> TextMatch:
    """Compare the text read in an image with all expected texts."""
    return match_units(split_units(found, language), split_units(" ".join(expected), language))
