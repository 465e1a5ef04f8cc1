"""The score chart; positions are in percent, so that text and dots keep their size on every screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gems.types import Round

LEFT, RIGHT, TOP, BOTTOM = 9.0, 96.0, 9.0, 80.0
_MAX_LABELS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """The score of one image; `x` and `y` in percent of the chart."""

    x: float
    y: float
    round: int
    score: float
    chosen: bool
    """Whether it is the round's best image."""
    best: bool
    """Whether it is the run's best image."""
    label: str
    """The round's number below the axis; empty if there is no room for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart of scores by round."""

    dots: list[Dot]
    line: str
    """Points of the line, in a square of 100 by 100 that fills the plot area."""
    grid: list[tuple[float, str]]
    """Heights in percent of the chart, with their labels."""
    said: str
    """Text alternative of the chart."""


def chart(rounds: Sequence[Round], best_round: int) -> Chart:
    """Build the chart of the scores of all images; the line connects the best of each round."""
    every = -(-len(rounds) // _MAX_LABELS) or 1
    dots: list[Dot] = []
    for position, round_ in enumerate(rounds):
        for index, verdict in enumerate(round_["verdicts"]):
            chosen = index == round_["best"]
            dots.append(
                Dot(
                    x=LEFT + (RIGHT - LEFT) * _x_share(position, len(rounds)),
                    y=_y_percent(verdict["score"]),
                    round=round_["number"],
                    score=verdict["score"],
                    chosen=chosen,
                    best=chosen and round_["number"] == best_round,
                    label=str(round_["number"]) if chosen and position % every == 0 else "",
                )
            )
    # The best ones are drawn last, above the others.
    dots.sort(key=lambda dot: (dot.chosen, dot.best))
    line = " ".join(
        f"{100 * _x_share(n, len(rounds)):.2f},{100 - 100 * round_['score']:.2f}"
        for n, round_ in enumerate(rounds)
    )
    said = ", ".join(f"round {round_['number']}: {round_['score']:.0%}" for round_ in rounds)
    grid = [(_y_percent(share), f"{share:.0%}") for share in (0.0, 0.5, 1.0)]
    return Chart(dots=dots, line=line, grid=grid, said=said)


def _x_share(position: int, count: int) -> float:
    """Return the horizontal position in [0, 1]; a single round is in the middle."""
    return position / (count - 1) if count > 1 else 0.5


def _y_percent(score: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * score
