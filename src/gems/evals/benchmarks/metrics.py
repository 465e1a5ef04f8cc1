"""Compute figures from scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gems.evals.records import Figure, Score


def mean(values: Iterable[float]) -> float | None:
    """Return the mean; None for no values."""
    found = list(values)
    return sum(found) / len(found) if found else None


def valued_scores(scores: Iterable[Score], metric: str, language: str) -> list[Score]:
    """Return the scores of one metric and language that have a value."""
    return [
        score
        for score in scores
        if score.metric == metric and score.language == language and score.value is not None
    ]


def get_value(score: Score) -> float:
    """Return the value of a score; raises `ValueError` if it has none."""
    if score.value is None:
        raise ValueError(f"{score.key} has no {score.metric}.")
    return score.value


def prompt_means(scores: Iterable[Score]) -> dict[str, float]:
    """Return the mean over the samples of each prompt, by prompt id."""
    values: dict[str, list[float]] = defaultdict(list)
    for score in scores:
        values[score.prompt_id].append(get_value(score))
    return {prompt: sum(found) / len(found) for prompt, found in values.items()}


def group_by(scores: Iterable[Score], key: Callable[[Score], str]) -> dict[str, list[Score]]:
    """Group scores by key, in order of first appearance."""
    groups: dict[str, list[Score]] = defaultdict(list)
    for score in scores:
        groups[key(score)].append(score)
    return dict(groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Creates figures of one benchmark, language and judge."""

    benchmark: str
    language: str
    judge: str

    def __call__(self, name: str, value: float | None, scored: int, expected: int) -> Figure:
        """Create a figure that rests on `scored` of `expected` samples."""
        return Figure(
            benchmark=self.benchmark,
            language=self.language,
            name=name,
            value=value,
            scored=scored,
            expected=expected,
            judge=self.judge,
        )

    def parts(
        self, name: str, groups: Mapping[str, Sequence[Score]], expected: Mapping[str, int], scale: float = 1
    ) -> list[Figure]:
        """Return the mean of each part times `scale`, also of parts without scores.

        `groups` holds scores with values by part, `expected` the samples of each part in the complete
        benchmark.
        """
        figures = []
        for part, count in expected.items():
            found = groups.get(part, ())
            value = mean(get_value(score) for score in found)
            scaled = None if value is None else value * scale
            figures.append(self(f"{name}/{part}", scaled, len(found), count))
        return figures
