"""Decide when the loop ends."""

from __future__ import annotations

from collections.abc import Sequence

from gems.types import Options, Round, StopReason, Usage


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


def count_images(rounds: Sequence[Round]) -> int:
    """Count the images of the rounds."""
    return sum(len(turn["candidates"]) for turn in rounds)


def spent_usd(usage: dict[str, Usage]) -> float | None:
    """Return the US dollars spent so far; None if a price is unknown."""
    prices = [share["usd"] for share in usage.values()]
    return None if None in prices else sum(price for price in prices if price is not None)


def _is_budget_spent(options: Options, rounds: Sequence[Round], usage: dict[str, Usage]) -> bool:
    limit = options["max_images"]
    if limit is not None and count_images(rounds) >= limit:
        return True
    budget, spent = options["budget_usd"], spent_usd(usage)
    if budget is None or spent is None:
        return False
    # The next round is expected to cost the average of the rounds so far.
    return spent + spent / len(rounds) > budget


def _is_plateau(patience: int | None, scores: Sequence[float]) -> bool:
    """Return whether the last `patience` rounds brought no improvement."""
    if patience is None or len(scores) <= patience:
        return False
    return max(scores[-patience:]) <= max(scores[:-patience])
