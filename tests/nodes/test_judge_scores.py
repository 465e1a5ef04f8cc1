"""Scores, ties, and when the loop ends."""

from __future__ import annotations

from typing import Any

import pytest

from gems.nodes.generator import count_images
from gems.nodes.policy import find_stop_reason
from gems.types import NO_USAGE, spent_usd
from gems.verdicts import best_round, best_verdict, pass_rate
from tests.support.scripted_models import OPTIONS


def rounds(*scores: float, images: int = 1) -> Any:
    return [
        {
            "number": number,
            "score": score,
            "candidates": [{}] * images,
            "best": 0,
            "verdicts": [{"score": score, "answers": []}],
        }
        for number, score in enumerate(scores, 1)
    ]


def usage(**usd: float | None) -> Any:
    return {name: NO_USAGE | {"usd": price} for name, price in usd.items()}


def ended(scores: list[float], spent: Any = None, images: int = 1, **options: Any) -> Any:
    settled: Any = OPTIONS | options
    return find_stop_reason(settled, rounds(*scores, images=images), spent or {})


def test_unknown_counts_as_unmet() -> None:
    assert pass_rate(["yes", "no", "unknown", "yes"]) == 0.5
    assert pass_rate(["unknown"]) == 0.0


def test_nothing_to_score_is_an_error() -> None:
    with pytest.raises(ValueError, match="No answers"):
        pass_rate([])
    with pytest.raises(ValueError, match="No images"):
        best_round([])


@pytest.mark.parametrize(
    ("scores", "best"), [([0.5], 0), ([0.1, 0.9, 0.2], 1), ([0.5, 0.9, 0.9], 1), ([0.0, 0.0], 0)]
)
def test_best_is_the_highest_and_a_tie_keeps_the_earlier(scores: list[float], best: int) -> None:
    assert best_verdict([turn["verdicts"][0] for turn in rounds(*scores)]) == best
    assert best_round(rounds(*scores))["number"] == best + 1


def test_of_equal_ones_the_best_is_what_more_was_confirmed_of() -> None:
    given = rounds(0.5, 0.5, 0.5, 0.4)
    yes: Any = {"answer": "yes", "source": "confirmation"}
    no: Any = {"answer": "no", "source": "confirmation"}
    for turn, answers in zip(given, ([no, no], [no, yes], [yes, no], [yes, yes]), strict=True):
        turn["verdicts"][0]["answers"] = answers
    assert best_round(given)["number"] == 2


def test_passed_comes_before_every_limit() -> None:
    assert ended([1.0], max_rounds=1, max_images=1) == "passed"
    assert ended([1.0, 0.5]) is None


def test_max_rounds() -> None:
    assert ended([0.5] * 2, max_rounds=3) is None
    assert ended([0.5] * 3, max_rounds=3) == "max_rounds"


def test_budget_by_images() -> None:
    assert ended([0.1, 0.2], images=2, max_images=5) is None
    assert ended([0.1, 0.2], images=2, max_images=4) == "budget"
    assert count_images(rounds(0.1, 0.2, images=3)) == 6


def test_budget_by_dollars_leaves_room_for_a_whole_round() -> None:
    assert ended([0.1], usage(generator=1.0, judge=0.5), budget_usd=3.0) is None
    assert ended([0.1], usage(generator=1.0, judge=0.5), budget_usd=2.9) == "budget"
    assert ended([0.1, 0.2], usage(generator=2.0), budget_usd=3.0) is None
    assert ended([0.1, 0.2], usage(generator=2.0), budget_usd=2.5) == "budget"


def test_spending_is_unknown_as_soon_as_a_price_is() -> None:
    assert spent_usd(usage(generator=1.0, judge=None)) is None
    assert spent_usd(usage(generator=1.0, judge=0.5)) == 1.5
    assert spent_usd({}) == 0


def test_plateau_is_so_many_rounds_without_a_better_score() -> None:
    assert ended([0.5, 0.5, 0.4], plateau=3, max_rounds=50) is None
    assert ended([0.5, 0.5, 0.4, 0.5], plateau=3, max_rounds=50) == "plateau"
    assert ended([0.5, 0.4, 0.4, 0.6], plateau=3, max_rounds=50) is None
    assert ended([0.5] * 20, plateau=None, max_rounds=50) is None
