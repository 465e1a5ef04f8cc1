"""Render the HTML report of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files

from markupsafe import Markup

from gems._version import __version__
from gems.memory.images import ImageStore
from gems.reporting.answering import Cell, Row, matrix
from gems.reporting.charting import chart
from gems.reporting.picturing import Thumbnail, load_images, make_thumbnail
from gems.reporting.templates import Piece, diff_prompts
from gems.reporting.templating import environment, policy_hash
from gems.results import RunResult
from gems.types import NO_USAGE, Candidate, Round, RunRow, Usage, add_usage

_HERO, _ROUND, _OTHER = 1024, 640, 200
"""Longest sides in pixels."""
_MANY_ROUNDS = 16
"""With more rounds, their images are smaller, so that the page stays within a few megabytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """One image of a round."""

    picture: Thumbnail
    candidate: Candidate
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One round on the page."""

    number: int
    best: bool
    score: float
    prompt: str
    pieces: list[Piece]
    since: str
    """Name of the prompt that this one is compared with."""
    drawing: Drawing
    others: list[Drawing]
    cells: list[Cell]
    experience: str
    seconds: dict[str, float]


async def report_page(result: RunResult, row: RunRow, images: ImageStore, lessons: Sequence[str] = ()) -> str:
    """Render a run as self-contained HTML; missing images are reported in their place.

    `lessons` are lines about lessons of earlier runs.
    """
    image_ids = {candidate["image"] for round_ in result.rounds for candidate in round_["candidates"]}
    if "source" in result.options:
        image_ids.add(result.options["source"])
    loaded = await load_images(images, image_ids)
    # Scaling images would block other runs on this event loop.
    return await asyncio.to_thread(_render, result, row, loaded, lessons)


def _render(result: RunResult, row: RunRow, loaded: dict[str, bytes | str], lessons: Sequence[str]) -> str:
    rows = matrix(result.requirements, result.rounds)
    turns = _page_rounds(result, rows, loaded)
    best = next((round_ for round_ in result.rounds if round_["number"] == result.best_round), None)
    style, script = _read_asset("page.css"), _read_asset("page.js")
    return (
        environment("gems.reporting")
        .get_template("page.html.jinja")
        .render(
            result=result,
            met=sum(item.answer == "yes" for item in result.requirements),
            hero=make_thumbnail(loaded[result.image_id], _HERO) if result.image_id else None,
            source=make_thumbnail(loaded[result.options["source"]], _OTHER)
            if "source" in result.options
            else None,
            best=best["candidates"][best["best"]] if best else None,
            rows=rows,
            turns=turns,
            chart=chart(result.rounds, result.best_round) if result.rounds else None,
            lessons=lessons,
            total=_total_usage(result.usage),
            begun=datetime.fromisoformat(row["created"]),
            updated=datetime.fromisoformat(row["updated"]),
            images=sum(len(round_["candidates"]) for round_ in result.rounds),
            style=Markup(style),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - our own file
            style_hash=policy_hash(style),
            script_hash=policy_hash(script),
            version=__version__,
        )
    )


def _page_rounds(result: RunResult, rows: list[Row], loaded: dict[str, bytes | str]) -> list[Turn]:
    experiences = {experience["round"]: experience["text"] for experience in result.experiences}
    side = _ROUND if len(result.rounds) <= _MANY_ROUNDS else _ROUND // 2
    turns: list[Turn] = []
    before, since = result.prompt, "your prompt"
    for position, round_ in enumerate(result.rounds):
        drawings = [_round_image(round_, index, loaded, side) for index in range(len(round_["candidates"]))]
        turns.append(
            Turn(
                number=round_["number"],
                best=round_["number"] == result.best_round,
                score=round_["score"],
                prompt=round_["prompt"],
                pieces=diff_prompts(before, round_["prompt"]),
                since=since,
                drawing=drawings[round_["best"]],
                others=[drawing for index, drawing in enumerate(drawings) if index != round_["best"]],
                cells=[requirement.cells[position] for requirement in rows],
                experience=experiences.get(round_["number"], ""),
                seconds=round_["seconds"],
            )
        )
        before, since = round_["prompt"], f"round {round_['number']}"
    return turns


def _round_image(round_: Round, index: int, loaded: dict[str, bytes | str], side: int) -> Drawing:
    candidate = round_["candidates"][index]
    return Drawing(
        picture=make_thumbnail(loaded[candidate["image"]], side if index == round_["best"] else _OTHER),
        candidate=candidate,
        score=round_["verdicts"][index]["score"],
    )


def _total_usage(usage: dict[str, Usage]) -> Usage:
    total = NO_USAGE
    for used in usage.values():
        total = add_usage(total, used)
    return total


def _read_asset(name: str) -> str:
    return (files("gems.reporting") / name).read_text(encoding="utf-8")
