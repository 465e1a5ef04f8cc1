"""LongText-Bench: which units of a text count."""

from __future__ import annotations

from collections.abc import Sequence

from gems.evals.formulas.texts import TextMatch, match_units, normalize_text


def split_units(text: str, language: str) -> Sequence[str]:
    """What is counted in a text: words in small letters, in Chinese characters.

    Args:
        text: As it was given or read.
        language: `en` or `zh`.
    """
    if language == "zh":
        return normalize_text(text).replace(" ", "")
    return normalize_text(text).lower().split()


def compare_words(found: str, wanted: Sequence[str], language: str) -> TextMatch:
    """What was read in one image against all texts that were to be in it."""
    return match_units(split_units(found, language), split_units(" ".join(wanted), language))
