"""Scores as a line: positions in percent, so that letters and dots keep their size on every screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gems.types import Round

LEFT, RIGHT, TOP, BOTTOM = 9.0, 96.0, 9.0, 80.0
_LABELS = 12


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
    """The round's number below the axis, empty where there is no room for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart of scores by round."""

    dots: list[Dot]
    line: str
    """Points of the line, in a square of 100 by 100 that fills the chart's inside."""
    grid: list[tuple[float, str]]
    """Heights in percent of the chart, with their labels."""
    said: str
    """The same in words."""


def chart(rounds: Sequence[Round], best_round: int) -> Chart:
    """The scores of all images; the line joins the best of each round."""
    every = -(-len(rounds) // _LABELS) or 1
    dots: list[Dot] = []
    for position, turn in enumerate(rounds):
        for index, verdict in enumerate(turn["verdicts"]):
            chosen = index == turn["best"]
            dots.append(
                Dot(
                    x=LEFT + (RIGHT - LEFT) * _share(position, len(rounds)),
                    y=_height(verdict["score"]),
                    round=turn["number"],
                    score=verdict["score"],
                    chosen=chosen,
                    best=chosen and turn["number"] == best_round,
                    label=str(turn["number"]) if chosen and position % every == 0 else "",
                )
            )
    # Those that matter are drawn last, above the others.
    dots.sort(key=lambda dot: (dot.chosen, dot.best))
    line = " ".join(
        f"{100 * _share(n, len(rounds)):.2f},{100 - 100 * turn['score']:.2f}" for n, turn in enumerate(rounds)
    )
    said = ", ".join(f"round {turn['number']}: {turn['score']:.0%}" for turn in rounds)
    grid = [(_height(share), f"{share:.0%}") for share in (0.0, 0.5, 1.0)]
    return Chart(dots=dots, line=line, grid=grid, said=said)


def _share(position: int, count: int) -> float:
    """How far to the right, in [0, 1]; a single round stands in the middle."""
    return position / (count - 1) if count > 1 else 0.5


def _height(score: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * score
