"""Shared arithmetic: probabilities, text match, dependencies, means."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gems.evals.records import Score

K = TypeVar("K", bound=Hashable)
# As GPT's and as SentencePiece's tokenizers write the blank before a word, where a server does not undo it.
_SPACE_MARKERS = str.maketrans({"\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}": " ", "\N{LOWER ONE EIGHTH BLOCK}": " "})
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DROPPED_CHARACTERS = re.compile("[^\u4e00-\u9fa5a-zA-Z0-9\\sàâäéèêëîïôöùûüçÀÂÄÉÈÊËÎÏÔÖÙÛÜÇ]")
_CHINESE = re.compile("[\u4e00-\u9fff]")


def mean(values: Iterable[float]) -> float | None:
    """Return the mean; None for no values."""
    found = list(values)
    return sum(found) / len(found) if found else None


def valued_scores(scores: Iterable[Score], metric: str) -> list[Score]:
    """Return the scores of one metric that have a value."""
    return [score for score in scores if score.metric == metric and score.value is not None]


def values_of(scores: Iterable[Score], metric: str) -> list[float]:
    """Return the values of one metric."""
    return [score.value for score in scores if score.metric == metric and score.value is not None]


def values_by(scores: Iterable[Score], key: Callable[[Score], K]) -> dict[K, list[float]]:
    """Return the values of scores by key, in order of first appearance."""
    valued = [score for score in scores if score.value is not None]
    groups = group_by(valued, key)
    return {name: [score.value for score in group if score.value is not None] for name, group in groups.items()}


def group_by(scores: Iterable[Score], key: Callable[[Score], K]) -> dict[K, list[Score]]:
    """Group scores by key, in order of first appearance."""
    groups: dict[K, list[Score]] = defaultdict(list)
    for score in scores:
        groups[key(score)].append(score)
    return dict(groups)


def number_facts(score: Score, names: Sequence[str]) -> list[float]:
    """Return the facts of a score with these names; raises `ValueError` if one is not a number."""
    numbers = [value for name in names if isinstance(value := score.facts.get(name), float)]
    if len(numbers) != len(names):
        raise ValueError(f"{score.key} lacks a number of {', '.join(names)}.")
    return numbers


Parents = Mapping[int, Sequence[int]]
"""The questions that each question depends on; 0 means none."""


def cascade_failures(answers: Mapping[int, float], parents: Parents) -> dict[int, float]:
    """Set questions with a failed parent to 0, and so on for their children.

    Answers are 0 or 1, in the order of the file; a parent counts with its value so far. Raises `KeyError`
    for an unknown parent. Source: DPG-Bench.
    """
    found = dict(answers)
    for question, above in parents.items():
        if any(found[parent] == 0 for parent in above if parent != 0):
            found[question] = 0.0
    return found


def fail_children(answers: Mapping[int, float], parents: Parents) -> dict[int, float]:
    """Set questions to 0 if the raw answer of a parent is 0; nothing cascades, unknown parents are ignored.

    Source: OneIG.
    """
    return {
        question: 0.0
        if any(answers.get(parent, 1.0) == 0 for parent in parents.get(question, ()) if parent != 0)
        else answer
        for question, answer in answers.items()
    }


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


def arithmetic_mean(answers: Sequence[float]) -> float:
    """Return the mean of answers or their probabilities, in [0, 1]; raises `ValueError` for none."""
    if not answers:
        raise ValueError("There are no answers.")
    return sum(answers) / len(answers)


def normalize_text(text: str) -> str:
    """Keep letters, digits, Chinese characters, French accents and single spaces."""
    return " ".join(_DROPPED_CHARACTERS.sub("", text).split())


def is_chinese(text: str) -> bool:
    """Whether a text contains a Chinese character."""
    return _CHINESE.search(text) is not None


@dataclass(frozen=True, slots=True)
class TextMatch:
    """The overlap of two texts: units in both, counted as in the text with fewer, expected and read units."""

    matched: int
    wanted: int
    found: int


def match_units(found: Iterable[Hashable], wanted: Iterable[Hashable]) -> TextMatch:
    """Compare two texts as multisets of units."""
    read, given = Counter(found), Counter(wanted)
    return TextMatch((read & given).total(), given.total(), read.total())


def recall(matches: Sequence[TextMatch]) -> float | None:
    """Return the share in [0, 1] of expected units that were read; None if none were expected."""
    wanted = sum(match.wanted for match in matches)
    return sum(match.matched for match in matches) / wanted if wanted else None


def precision(matches: Sequence[TextMatch]) -> float | None:
    """Return the share in [0, 1] of read units that were expected; None if none were read."""
    found = sum(match.found for match in matches)
    return sum(match.matched for match in matches) / found if found else None
