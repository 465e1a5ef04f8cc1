"""Show a run in notebooks: the image, the checklist, the rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from jinja2 import Template

from gems.reporting.templates import Thumbnail, environment, make_thumbnail
from gems.types import Round

if TYPE_CHECKING:
    from gems.results import RunResult

_NOTEBOOK_HERO, _NOTEBOOK_ROUND = 384, 96
"""Longest sides in pixels; small, since notebooks store all images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _NotebookRound:
    number: int
    score: str
    best: bool
    prompt: str
    picture: Thumbnail | None


def result_html(result: RunResult, picture: bytes | None, load_image: Callable[[str], bytes | None]) -> str:
    """Render a run as self-contained, escaped HTML.

    `picture` is its best image as PNG; `at_hand` returns stored images as PNG, or None.
    """
    return _notebook_template().render(
        result=result,
        summary=result_summary(result),
        hero=_thumbnail(picture, _NOTEBOOK_HERO),
        turns=_notebook_rounds(result.rounds, result.best_round, load_image),
    )


def result_summary(result: RunResult) -> str:
    """Summarize a run in one line."""
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


def _notebook_rounds(
    rounds: Sequence[Round], best_round: int, load_image: Callable[[str], bytes | None]
) -> list[_NotebookRound]:
    return [
        _NotebookRound(
            number=round_["number"],
            score=f"{round_['score']:.0%}",
            best=round_["number"] == best_round,
            prompt=round_["prompt"],
            picture=_thumbnail(load_image(round_["candidates"][round_["best"]]["image"]), _NOTEBOOK_ROUND),
        )
        for round_ in rounds
    ]


def _thumbnail(png: bytes | None, side: int) -> Thumbnail | None:
    return make_thumbnail(png, side) if png is not None else None


@cache
def _notebook_template() -> Template:
    return environment("gems.reporting").get_template("result.html.jinja")
