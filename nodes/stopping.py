"""When the loop ends."""

from __future__ import annotations

from collections.abc import Sequence

from gems.types import Options, Round, StopReason, Usage


def find_stop_reason(options: Options, rounds: Sequence[Round], usage: dict[str, Usage]) -> StopReason | None:
    """Why no further round should begin; None where one should.

    The deadline is not among the reasons: every node looks at it by itself, before and during its work.

    Args:
        options: The run's options.
        rounds: All judged rounds, at least one.
        usage: What was consumed so far.
    """
    if rounds[-1]["score"] == 1.0:
        return "passed"
    if len(rounds) >= options["max_rounds"]:
        return "max_rounds"
    if _is_budget_spent(options, rounds, usage):
        return "budget"
    return "plateau" if _is_plateau(options["plateau"], [turn["score"] for turn in rounds]) else None


def count_images(rounds: Sequence[Round]) -> int:
    """How many images the rounds hold."""
    return sum(len(turn["candidates"]) for turn in rounds)


def spent_usd(usage: dict[str, Usage]) -> float | None:
    """US dollars spent so far; None where a price is not known."""
    prices = [share["usd"] for share in usage.values()]
    return None if None in prices else sum(price for price in prices if price is not None)


def _is_budget_spent(options: Options, rounds: Sequence[Round], usage: dict[str, Usage]) -> bool:
    limit = options["max_images"]
    if limit is not None and count_images(rounds) >= limit:
        return True
    budget, spent = options["budget_usd"], spent_usd(usage)
    if budget is None or spent is None:
        return False
    # The next round will cost about what a round has cost so far; it must still fit.
    return spent + spent / len(rounds) > budget


def _is_plateau(patience: int | None, scores: Sequence[float]) -> bool:
    """Whether the last `patience` rounds brought nothing better than what there was before them."""
    if patience is None or len(scores) <= patience:
        return False
    return max(scores[-patience:]) <= max(scores[:-patience])
