"""OneIG: alignment, the text formula, diversity, and the mean of the five dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gems.evals.formulas.dependencies import Parents, fail_children
from gems.evals.formulas.texts import TextMatch, edit_distance, is_chinese, match_units, normalize_text

DIMENSIONS = ("alignment", "text", "reasoning", "style", "diversity")
MAX_EDITS: Mapping[str, int] = {"en": 100, "zh": 50}
"""From how many edits on a text counts as wrong altogether, by language."""


def alignment_score(answers: Mapping[int, float], parents: Parents) -> float:
    """The share of questions that hold, in [0, 1]; one whose parent failed does not.

    Raises:
        ZeroDivisionError: there are no questions.
    """
    found = fail_children(answers, parents)
    return sum(found.values()) / len(found)


@dataclass(frozen=True, slots=True)
class TextComparison:
    """One image's text against what was to be written.

    Attributes:
        edits: Edit distance in characters.
        match: Words, or characters where the wanted text is Chinese.
    """

    edits: int
    match: TextMatch


def compare_text(found: str, wanted: str) -> TextComparison:
    """Compare what was read in an image with what was to be written; case matters."""
    read, given = _normalize_language(found), _normalize_language(wanted)
    match = match_units(read, given) if is_chinese(given) else match_units(read.split(), given.split())
    return TextComparison(edit_distance(read, given), match)


def text_score(comparisons: Sequence[TextComparison], language: str) -> float | None:
    """The text score in [0, 1] over images; None where there is nothing to compare.

    It is 1 - min(M, ED) (1 - CR) (1 - WAC) / M, with the mean edit distance ED, the share of exact texts CR,
    and the share of all wanted units that were read, WAC.

    Args:
        comparisons: One for each image.
        language: `en` or `zh`, which says M.
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
    """The mean distance of the pairs of one prompt's images; None where there is no pair."""
    return sum(distances) / len(distances) if distances else None


def oneig_score(dimensions: Mapping[str, float]) -> float | None:
    """The plain mean of the five dimensions, in [0, 1]; None where one is missing."""
    if not all(name in dimensions for name in DIMENSIONS):
        return None
    return sum(dimensions[name] for name in DIMENSIONS) / len(DIMENSIONS)


def _normalize_language(written: str) -> str:
    plain = normalize_text(written)
    return plain.replace(" ", "") if is_chinese(plain) else plain
