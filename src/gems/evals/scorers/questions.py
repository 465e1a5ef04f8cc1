"""Yes-or-no questions that may depend on others: DPG-Bench and OneIG alignment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gems.evals.benchmarks.judging import ask_yes_no
from gems.evals.benchmarks.metrics import Parents
from gems.evals.judge import EvalJudge
from gems.evals.records import BenchmarkPrompt, Score, gather_or_cancel
from gems.evals.scorers.scoring import ImageScore, score_samples

ANSWERS_FACT = "answers"
"""Fact of a score: 1 for yes and 0 for no, in the order of the questions."""


async def score_questions(
    prompt: BenchmarkPrompt,
    images: Mapping[int, bytes],
    judge: EvalJudge,
    metric: str,
    formula: Callable[[Mapping[int, float], Parents], float],
) -> list[Score]:
    """Apply `formula` to the raw answers (0 or 1) about each image and the questions' parents.

    The prompt's facts hold `questions` and `parents` by number; `formula` returns a number in [0, 1].
    """
    questions, parents = get_questions(prompt.facts), get_parents(prompt.facts)

    async def score_image(image: bytes) -> ImageScore:
        replies = await gather_or_cancel(
            ask_yes_no(judge, question, image) for question in questions.values()
        )
        answers = dict(zip(questions, map(float, replies), strict=True))
        failed = [question for number, question in questions.items() if not answers[number]]
        return ImageScore(
            value=formula(answers, parents),
            facts={ANSWERS_FACT: list(answers.values())},
            explanation=f"no: {' '.join(failed)}" if failed else "",
        )

    return await score_samples(prompt, images, metric, score_image)


def get_questions(facts: Mapping[str, Any]) -> dict[int, str]:
    """Return the questions by number."""
    return dict(facts["questions"])


def get_parents(facts: Mapping[str, Any]) -> dict[int, list[int]]:
    """Return the questions that each question depends on."""
    return dict(facts["parents"])


def get_answers(score: Score, facts: Mapping[str, Any]) -> dict[int, float]:
    """Return the raw answers of a score by question; raises `ValueError` for other questions."""
    answers = score.facts.get(ANSWERS_FACT)
    return dict(zip(get_questions(facts), answers if isinstance(answers, list) else (), strict=True))
