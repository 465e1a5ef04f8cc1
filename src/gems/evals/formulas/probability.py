"""Probabilities of answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

# As GPT's and as SentencePiece's tokenizers write the blank before a word, where a server does not undo it.
_SPACE_MARKERS = str.maketrans(
    {"\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}": " ", "\N{LOWER ONE EIGHTH BLOCK}": " "}
)
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def spellings(word: str) -> frozenset[str]:
    """Return first tokens that spell `word`: lower case and capitalized, with and without a leading space."""
    small = word.lower()
    return frozenset(f"{blank}{form}" for blank in ("", " ") for form in (small, small.capitalize()))


def number_spellings(word: str) -> frozenset[str]:
    """Return first tokens that spell a number word or its digits."""
    digits = str(NUMBERS.index(word.lower())) if word.lower() in NUMBERS else ""
    return spellings(word) | (frozenset({digits, f" {digits}"}) if digits else frozenset())


def token_probability(first_token: Mapping[str, float], accepted: Iterable[str]) -> float:
    """Return the probability in [0, 1] that the first token is one of `accepted`."""
    tokens = frozenset(accepted)
    return min(1.0, sum(p for token, p in first_token.items() if token.translate(_SPACE_MARKERS) in tokens))


def acceptance_rate(accepted: Sequence[bool]) -> float:
    """Return the share of accepted answers in [0, 1]; raises `ValueError` for none."""
    if not accepted:
        raise ValueError("There are no answers.")
    return sum(accepted) / len(accepted)
