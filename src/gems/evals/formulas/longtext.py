"""LongText-Bench: which units of a text count."""

from __future__ import annotations

from collections.abc import Sequence

from gems.evals.formulas.texts import Match, kept, matched


def units(text: str, language: str) -> Sequence[str]:
    """What is counted in a text: words in small letters, in Chinese characters.

    Args:
        text: As it was given or read.
        language: `en` or `zh`.
    """
    if language == "zh":
        return kept(text).replace(" ", "")
    return kept(text).lower().split()


def compared(found: str, wanted: Sequence[str], language: str) -> Match:
    """What was read in one image against all texts that were to be in it."""
    return matched(units(found, language), units(" ".join(wanted), language))
