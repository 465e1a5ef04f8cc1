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


def build_verdict(image: str, answers: list[Answer]) -> Verdict:
    """The answers for one image with their score."""
    return {"image": image, "answers": answers, "score": pass_rate([a["answer"] for a in answers])}


def best_verdict(verdicts: Sequence[Verdict]) -> int:
    """Position of the best image.

    That is the highest score. Of equal ones it is that of which more was found to be met when asked again,
    since a score of two looks is worth more than one of a single look; then the earlier one.

    Raises:
        ValueError: there is no verdict.
    """
    if not verdicts:
        raise ValueError("There is no image to choose from.")

    def worth(index: int) -> tuple[float, int, int]:
        found = verdicts[index]
        confirmed = sum(a["answer"] == "yes" and a["source"] == "confirmation" for a in found["answers"])
        return found["score"], confirmed, -index

    return max(range(len(verdicts)), key=worth)


def best_round(rounds: Sequence[Round]) -> Round:
    """The round with the best image.

    Raises:
        ValueError: there is no round.
    """
    return rounds[best_verdict([turn["verdicts"][turn["best"]] for turn in rounds])]
