"""Show a run in notebooks: the image, the checklist, the rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gems.reporting.templates import Thumbnail, environment, make_thumbnail

if TYPE_CHECKING:
    from gems.results import RunResult

_NOTEBOOK_HERO, _NOTEBOOK_ROUND = 384, 96
"""Longest sides in pixels; small, since notebooks store all images."""


def result_html(result: RunResult, picture: bytes | None, load_image: Callable[[str], bytes | None]) -> str:
    """Render a run as self-contained, escaped HTML; `load_image` returns stored PNGs, or None."""
    rounds = [
        {
            "number": round_["number"],
            "score": f"{round_['score']:.0%}",
            "best": round_["number"] == result.best_round,
            "prompt": round_["prompt"],
            "picture": _thumbnail(load_image(round_["candidates"][round_["best"]]["image"]), _NOTEBOOK_ROUND),
        }
        for round_ in result.rounds
    ]
    return (
        environment("gems.reporting")
        .get_template("result.html.jinja")
        .render(result=result, summary=result_summary(result), hero=_thumbnail(picture, _NOTEBOOK_HERO), turns=rounds)
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


def _thumbnail(png: bytes | None, side: int) -> Thumbnail | None:
    return make_thumbnail(png, side) if png is not None else None
