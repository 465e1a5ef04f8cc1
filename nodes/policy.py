"""Decide when the loop ends."""

from __future__ import annotations

from collections.abc import Sequence

from gems.nodes.generator import count_images
from gems.types import Options, Round, StopReason, Usage, total_usage


def find_stop_reason(options: Options, rounds: Sequence[Round], usage: dict[str, Usage]) -> StopReason | None:
    """Return the reason to start no further round, or None to continue.

    `rounds` holds at least one judged round. The deadline is not checked here: every node checks it itself.
    """
    if rounds[-1]["score"] == 1.0:
        return "passed"
    if len(rounds) >= options["max_rounds"]:
        return "max_rounds"
    if _is_budget_spent(options, rounds, usage):
        return "budget"
    return "plateau" if _is_plateau(options["plateau"], [turn["score"] for turn in rounds]) else None


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
