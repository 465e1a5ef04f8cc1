"""Scores of images, and which image is best."""

from __future__ import annotations

from collections.abc import Sequence

from gems.types import Answer, AnswerValue, Round, Verdict


def pass_rate(answers: Sequence[AnswerValue]) -> float:
    """Share of requirements met, in [0, 1]; unknown counts as unmet.

    Args:
        answers: One per requirement, in plan order.

    Raises:
        ValueError: `answers` is empty.

    Source: GEMS (arXiv:2603.28088) counts passes; dividing is ours.
    """
    if not answers:
        raise ValueError("There is no answer to score.")
    return sum(answer == "yes" for answer in answers) / len(answers)


def verdict(image: str, answers: list[Answer]) -> Verdict:
    """The answers for one image with their score."""
    return {"image": image, "answers": answers, "score": pass_rate([a["answer"] for a in answers])}


def best_index(scores: Sequence[float]) -> int:
    """Position of the highest score; a tie keeps the earlier one."""
    return max(range(len(scores)), key=lambda index: (scores[index], -index))


def best_round(rounds: Sequence[Round]) -> Round:
    """The round with the highest score; a tie keeps the earlier one.

    Raises:
        ValueError: there is no round.
    """
    if not rounds:
        raise ValueError("There is no round to choose from.")
    return rounds[best_index([turn["score"] for turn in rounds])]
