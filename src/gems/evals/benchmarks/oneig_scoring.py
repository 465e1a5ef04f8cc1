"""OneIG: the five dimensions and their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gems.evals.benchmarks.metrics import (
    Parents,
    TextMatch,
    edit_distance,
    fail_children,
    is_chinese,
    match_units,
    normalize_text,
)

DIMENSIONS = ("alignment", "text", "reasoning", "style", "diversity")
MAX_EDITS: Mapping[str, int] = {"en": 100, "zh": 50}
"""Number of edits from which a text counts as completely wrong, by language."""


def alignment_score(answers: Mapping[int, float], parents: Parents) -> float:
    """Return the share of yes answers, in [0, 1]; a question with a failed parent counts as no."""
    found = fail_children(answers, parents)
    return sum(found.values()) / len(found)


@dataclass(frozen=True, slots=True)
class TextComparison:
    """The text in an image compared with the expected text.

    Attributes:
        edits: Edit distance in characters.
        match: Words, or characters if the expected text is Chinese.
    """

    edits: int
    match: TextMatch


def compare_text(found: str, wanted: str) -> TextComparison:
    """Compare the text read in an image with the expected one; case-sensitive."""
    read, given = _normalize_language(found), _normalize_language(wanted)
    match = match_units(read, given) if is_chinese(given) else match_units(read.split(), given.split())
    return TextComparison(edit_distance(read, given), match)


def text_score(comparisons: Sequence[TextComparison], language: str) -> float | None:
    """Return the text score in [0, 1] over images; None without expected text.

    It is 1 - min(M, ED) (1 - CR) (1 - WAC) / M with the mean edit distance ED, the share of exact texts CR,
    the share of expected units that were read WAC, and M by language.
    """
    units = sum(each.match.wanted for each in comparisons)
    if not comparisons or not units:
        return None
    most = MAX_EDITS[language]
    edits = sum(each.edits for each in comparisons) / len(comparisons)
    exact = sum(each.edits == 0 for each in comparisons) / len(comparisons)
    read = sum(each.match.matched for each in comparisons) / units
    return 1 - min(most, edits) * (1 - exact) * (1 - read) / most


def diversity_score(distances: Sequence[float]) -> float | None:
    """Return the mean distance of all pairs of one prompt's images; None without a pair."""
    return sum(distances) / len(distances) if distances else None


def oneig_score(dimensions: Mapping[str, float]) -> float | None:
    """Return the mean of the five dimensions, in [0, 1]; None if one is missing."""
    if not all(name in dimensions for name in DIMENSIONS):
        return None
    return sum(dimensions[name] for name in DIMENSIONS) / len(DIMENSIONS)


def _normalize_language(written: str) -> str:
    plain = normalize_text(written)
    return plain.replace(" ", "") if is_chinese(plain) else plain
