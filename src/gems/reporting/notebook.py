"""A run as notebooks show it: the picture, the checklist, the rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from jinja2 import Template

from gems.reporting.picturing import Shown, shown
from gems.reporting.templating import environment
from gems.types import Round

if TYPE_CHECKING:
    from gems.results import RunResult

_HERO, _ROUND = 384, 96
"""Longest sides in pixels: a notebook keeps every picture that it shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    number: int
    score: str
    best: bool
    prompt: str
    picture: Shown | None


def result_html(result: RunResult, picture: bytes | None, at_hand: Callable[[str], bytes | None]) -> str:
    """A run as a piece of HTML that needs nothing else; whatever users and models wrote is escaped.

    Args:
        result: The run as far as it came.
        picture: PNG bytes of its best image.
        at_hand: PNG bytes of a stored image, None where they are not at hand.
    """
    return _template().render(
        result=result,
        summary=result_summary(result),
        hero=_small(picture, _HERO),
        turns=_turns(result.rounds, result.best_round, at_hand),
    )


def result_summary(result: RunResult) -> str:
    """A run in one line."""
    met = sum(item.answer == "yes" for item in result.requirements)
    count = len(result.rounds)
    parts = [
        f"{met} of {len(result.requirements)} requirements met",
        f"{count} {'round' if count == 1 else 'rounds'}",
        result.stop_reason or result.status,
        f"seed {result.options['seed']}",
        f"run {result.run_id}",
    ]
    return " · ".join(parts)


def _turns(rounds: Sequence[Round], best_round: int, at_hand: Callable[[str], bytes | None]) -> list[_Turn]:
    return [
        _Turn(
            number=turn["number"],
            score=f"{turn['score']:.0%}",
            best=turn["number"] == best_round,
            prompt=turn["prompt"],
            picture=_small(at_hand(turn["candidates"][turn["best"]]["image"]), _ROUND),
        )
        for turn in rounds
    ]


def _small(png: bytes | None, side: int) -> Shown | None:
    return shown(png, side) if png is not None else None


@cache
def _template() -> Template:
    return environment("gems.reporting").get_template("result.html.jinja")
