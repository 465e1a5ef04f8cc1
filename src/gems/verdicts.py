"""Answers, verdicts and scores: pass rate, best candidate, best round."""

from __future__ import annotations

from collections.abc import Sequence

from gems.types import Answer, AnswerValue, Requirement, Round, Verdict


def pass_rate(answers: Sequence[AnswerValue]) -> float:
    """Return the share of requirements met, in [0, 1]; unknown counts as unmet.

    Raises `ValueError` if `answers` is empty.

    Source: GEMS (arXiv:2603.28088) counts passes; dividing is ours.
    """
    if not answers:
        raise ValueError("No answers to score.")
    return sum(answer == "yes" for answer in answers) / len(answers)


def build_verdict(image: str, answers: list[Answer]) -> Verdict:
    """Return the answers for one image with their score."""
    return {"image": image, "answers": answers, "score": pass_rate([a["answer"] for a in answers])}


def best_verdict(verdicts: Sequence[Verdict]) -> int:
    """Return the position of the best image; raise `ValueError` if there is none.

    The highest score wins. Among equal scores the image with more confirmed answers wins, since a score
    confirmed twice is more reliable; then the earlier one.
    """
    if not verdicts:
        raise ValueError("No images to choose from.")

    def worth(index: int) -> tuple[float, int, int]:
        found = verdicts[index]
        confirmed = sum(a["answer"] == "yes" and a["source"] == "confirmation" for a in found["answers"])
        return found["score"], confirmed, -index

    return max(range(len(verdicts)), key=worth)


def best_round(rounds: Sequence[Round]) -> Round:
    """Return the round with the best image; raise `ValueError` if there is no round."""
    return rounds[best_verdict([turn["verdicts"][turn["best"]] for turn in rounds])]


def unknown_answer(requirement: Requirement, evidence: str) -> Answer:
    """Return the answer `unknown` with the reason as evidence."""
    return {
        "requirement": requirement["id"],
        "answer": "unknown",
        "evidence": shorten_evidence(evidence),
        "probability": None,
        "source": "judge",
    }


def shorten_evidence(text: str) -> str:
    """Return the text on one line, at most 300 characters."""
    return " ".join(text.split())[:_MAX_EVIDENCE]


_MAX_EVIDENCE = 300
