"""Yes-or-no questions about an image, of which some depend on others: DPG-Bench and OneIG's alignment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gems.evals.benchmarks.judging import is_so
from gems.evals.formulas.dependencies import Parents
from gems.evals.gathering import together
from gems.evals.judge import EvalJudge
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers.scoring import Scored, each_sample

ANSWERS = "answers"
"""Fact of a score: 1 for yes and 0 for no, in the order of the questions."""


async def score(
    prompt: BenchmarkPrompt,
    images: Mapping[int, bytes],
    judge: EvalJudge,
    metric: str,
    formula: Callable[[Mapping[int, float], Parents], float],
) -> list[Score]:
    """What `formula` makes of the answers about each image.

    Args:
        prompt: Its facts have `questions` and `parents` by number.
        images: PNG bytes by sample.
        judge: Who is asked.
        metric: Name of the number.
        formula: From raw answers and parents to a number in [0, 1].
    """
    questions, parents = questions_of(prompt.facts), parents_of(prompt.facts)

    async def look(image: bytes) -> Scored:
        told = await together(is_so(judge, question, image) for question in questions.values())
        answers = dict(zip(questions, map(float, told), strict=True))
        noes = [question for number, question in questions.items() if not answers[number]]
        return Scored(
            value=formula(answers, parents),
            facts={ANSWERS: list(answers.values())},
            explanation=f"no: {' '.join(noes)}" if noes else "",
        )

    return await each_sample(prompt, images, metric, look)


def questions_of(facts: Mapping[str, Any]) -> dict[int, str]:
    """The questions by number."""
    return dict(facts["questions"])


def parents_of(facts: Mapping[str, Any]) -> dict[int, list[int]]:
    """What each question depends on."""
    return dict(facts["parents"])


def answers_of(score: Score, facts: Mapping[str, Any]) -> dict[int, float]:
    """The raw answers of a score by question.

    Raises:
        ValueError: the score was made from other questions.
    """
    answers = score.facts.get(ANSWERS)
    return dict(zip(questions_of(facts), answers if isinstance(answers, list) else (), strict=True))
