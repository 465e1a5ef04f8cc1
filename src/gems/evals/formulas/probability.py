"""How likely a judge finds an answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

# As GPT's and as SentencePiece's tokenizers write the blank before a word, where a server does not undo it.
_SPACE_MARKERS = str.maketrans(
    {"\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}": " ", "\N{LOWER ONE EIGHTH BLOCK}": " "}
)
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def spellings(word: str) -> frozenset[str]:
    """First tokens that say `word`: in small letters and with a capital, each also behind a blank."""
    small = word.lower()
    return frozenset(f"{blank}{form}" for blank in ("", " ") for form in (small, small.capitalize()))


def number_spellings(word: str) -> frozenset[str]:
    """First tokens that say a number word: as `spellings`, and the digits."""
    digits = str(NUMBERS.index(word.lower())) if word.lower() in NUMBERS else ""
    return spellings(word) | (frozenset({digits, f" {digits}"}) if digits else frozenset())


def token_probability(first_token: Mapping[str, float], accepted: Iterable[str]) -> float:
    """The probability in [0, 1] that the first token is one of `accepted`.

    Args:
        first_token: Probabilities of likely first tokens, by token.
        accepted: Spellings, for instance from `spellings`.
    """
    wanted = frozenset(accepted)
    return min(1.0, sum(p for token, p in first_token.items() if token.translate(_SPACE_MARKERS) in wanted))


def acceptance_rate(accepted: Sequence[bool]) -> float:
    """The share in [0, 1] of answers that were accepted; of one answer it is 0 or 1.

    Raises:
        ValueError: there are no answers.
    """
    if not accepted:
        raise ValueError("There are no answers.")
    return sum(accepted) / len(accepted)
