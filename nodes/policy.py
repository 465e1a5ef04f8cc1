"""Decide when the loop ends."""

from __future__ import annotations

from collections.abc import Sequence

from gems.models.chat.schemas import OUT_OF_REACH
from gems.nodes.generator import count_images
from gems.types import Answer, Options, Round, StopReason, Usage, answers_of, total_usage

_UNDECIDED_AFTER = 2
"""Images over which a requirement stays unknown before it no longer drives redraws."""


def find_stop_reason(
    options: Options, rounds: Sequence[Round], usage: dict[str, Usage], unchecked: Sequence[str] = ()
) -> StopReason | None:
    """Return the reason to start no further round, or None to continue.

    `rounds` holds at least one judged round; `unchecked` is what the prompt asks for and no requirement covers. The
    deadline is not checked here: every node checks it itself.
    """
    if rounds[-1]["score"] == 1.0:
        return "undecided" if unchecked else "passed"
    # The paper's loop knows no such reason.
    if options["profile"] != "paper" and undecided_requirements(rounds):
        return "undecided"
    if len(rounds) >= options["max_rounds"]:
        return "max_rounds"
    if _is_budget_spent(options, rounds, usage):
        return "budget"
    return "plateau" if _is_plateau(options["plateau"], [turn["score"] for turn in rounds]) else None


def undecided_requirements(rounds: Sequence[Round]) -> list[str]:
    """Return the ids of what alone keeps the newest round from passing and stays unknown; empty if anything is unmet.

    Another image of the same prompt would not make the judge able to answer.
    """
    unmet = [answer for answer in answers_of(rounds[-1]).values() if answer["answer"] != "yes"]
    if any(answer["answer"] == "no" for answer in unmet):
        return []
    settled = all(
        is_out_of_reach(answer) or _count_unknown(answer["requirement"], rounds) >= _UNDECIDED_AFTER for answer in unmet
    )
    return [answer["requirement"] for answer in unmet] if settled else []


def _count_unknown(requirement: str, rounds: Sequence[Round]) -> int:
    """Count the images over which the requirement stayed unknown."""
    found = {
        verdict["image"]
        for turn in rounds
        for verdict in turn["verdicts"]
        for answer in verdict["answers"]
        if answer["requirement"] == requirement and answer["answer"] == "unknown"
    }
    return len(found)


def is_out_of_reach(answer: Answer) -> bool:
    """Return whether the models in use can neither generate nor check what is asked."""
    return answer["answer"] == "unknown" and answer["evidence"].startswith(OUT_OF_REACH)


def _is_budget_spent(options: Options, rounds: Sequence[Round], usage: dict[str, Usage]) -> bool:
    limit = options["max_images"]
    if limit is not None and count_images(rounds) >= limit:
        return True
    budget, spent = options["budget_usd"], total_usage(usage)["usd"]
    if budget is None or spent is None:
        return False
    # The next round is expected to cost the average of the rounds so far.
    return spent + spent / len(rounds) > budget


def _is_plateau(patience: int | None, scores: Sequence[float]) -> bool:
    """Return whether the last `patience` rounds brought no improvement."""
    if patience is None or len(scores) <= patience:
        return False
    return max(scores[-patience:]) <= max(scores[:-patience])
