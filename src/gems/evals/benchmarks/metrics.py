"""From scores to figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gems.evals.records import Figure, Score


def mean(values: Iterable[float]) -> float | None:
    """The plain mean; None of nothing."""
    found = list(values)
    return sum(found) / len(found) if found else None


def valued_scores(scores: Iterable[Score], metric: str, language: str) -> list[Score]:
    """The scores of one metric and language that have a value. What could not be scored counts nowhere."""
    return [
        score
        for score in scores
        if score.metric == metric and score.language == language and score.value is not None
    ]


def get_value(score: Score) -> float:
    """The value of a score that has one.

    Raises:
        ValueError: it has none.
    """
    if score.value is None:
        raise ValueError(f"{score.key} has no {score.metric}.")
    return score.value


def prompt_means(scores: Iterable[Score]) -> dict[str, float]:
    """The mean over the samples of each prompt, by prompt id."""
    values: dict[str, list[float]] = defaultdict(list)
    for score in scores:
        values[score.prompt_id].append(get_value(score))
    return {prompt: sum(found) / len(found) for prompt, found in values.items()}


def group_by(scores: Iterable[Score], key: Callable[[Score], str]) -> dict[str, list[Score]]:
    """The scores in groups, in the order in which these come first."""
    groups: dict[str, list[Score]] = defaultdict(list)
    for score in scores:
        groups[key(score)].append(score)
    return dict(groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Makes figures of one benchmark, language and judge."""

    benchmark: str
    language: str
    judge: str

    def __call__(self, name: str, value: float | None, scored: int, expected: int) -> Figure:
        """One figure: `scored` samples it rests on, of `expected`."""
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
        """The mean of each part of a benchmark, times `scale`, also of those where nothing was scored.

        Args:
            name: Of the whole; a part's is behind a slash.
            groups: Scores with values, by part.
            expected: Samples that each part of the whole benchmark has.
            scale: From the scores' scale to that of the figure.
        """
        made = []
        for part, count in expected.items():
            found = groups.get(part, ())
            value = mean(get_value(score) for score in found)
            scaled = None if value is None else value * scale
            made.append(self(f"{name}/{part}", scaled, len(found), count))
        return made
