"""The page of a run: what the template shows, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files

from markupsafe import Markup

from gems._version import __version__
from gems.memory.images import ImageStore
from gems.memory.ledger import RunRow
from gems.models.usage import NOTHING, added
from gems.reporting.answering import Cell, Row, matrix
from gems.reporting.charting import chart
from gems.reporting.picturing import Shown, shown, stored
from gems.reporting.templates import Piece, changes
from gems.reporting.templating import environment, policy_hash
from gems.results import RunResult
from gems.types import Candidate, Round, Usage

_HERO, _ROUND, _OTHER = 1024, 640, 200
"""Longest sides in pixels."""
_MANY = 16
"""With more rounds than this their pictures are smaller, so that the page stays within a few megabytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """One image of a round."""

    picture: Shown
    candidate: Candidate
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One round as the page shows it."""

    number: int
    best: bool
    score: float
    prompt: str
    pieces: list[Piece]
    since: str
    """What the prompt is compared with."""
    drawing: Drawing
    others: list[Drawing]
    cells: list[Cell]
    experience: str
    seconds: dict[str, float]


async def report_page(result: RunResult, row: RunRow, images: ImageStore, lessons: Sequence[str] = ()) -> str:
    """The page of a run as HTML that needs nothing else.

    Args:
        result: The run as far as it came.
        row: Its place in the index.
        images: Where its images are; a missing one is told about in its place.
        lessons: What earlier runs taught this one.
    """
    wanted = {candidate["image"] for turn in result.rounds for candidate in turn["candidates"]}
    if "source" in result.options:
        wanted.add(result.options["source"])
    found = await stored(images, wanted)
    # Scaling pictures takes long enough to be noticed by other runs of this loop.
    return await asyncio.to_thread(_page, result, row, found, lessons)


def _page(result: RunResult, row: RunRow, found: dict[str, bytes | str], lessons: Sequence[str]) -> str:
    rows = matrix(result.requirements, result.rounds)
    turns = _turns(result, rows, found)
    best = next((turn for turn in result.rounds if turn["number"] == result.best_round), None)
    style, script = _asset("page.css"), _asset("page.js")
    return (
        environment("gems.reporting")
        .get_template("page.html.jinja")
        .render(
            result=result,
            met=sum(item.answer == "yes" for item in result.requirements),
            hero=shown(found[result.image_id], _HERO) if result.image_id else None,
            source=shown(found[result.options["source"]], _OTHER) if "source" in result.options else None,
            best=best["candidates"][best["best"]] if best else None,
            rows=rows,
            turns=turns,
            chart=chart(result.rounds, result.best_round) if result.rounds else None,
            lessons=lessons,
            total=_total(result.usage),
            begun=datetime.fromisoformat(row["created"]),
            updated=datetime.fromisoformat(row["updated"]),
            images=sum(len(turn["candidates"]) for turn in result.rounds),
            style=Markup(style),  # noqa: S704 - ours
            script=Markup(script),  # noqa: S704 - ours
            style_hash=policy_hash(style),
            script_hash=policy_hash(script),
            version=__version__,
        )
    )


def _turns(result: RunResult, rows: list[Row], found: dict[str, bytes | str]) -> list[Turn]:
    learned = {experience["round"]: experience["text"] for experience in result.experiences}
    side = _ROUND if len(result.rounds) <= _MANY else _ROUND // 2
    turns: list[Turn] = []
    before, since = result.prompt, "your prompt"
    for position, turn in enumerate(result.rounds):
        drawings = [_drawing(turn, index, found, side) for index in range(len(turn["candidates"]))]
        turns.append(
            Turn(
                number=turn["number"],
                best=turn["number"] == result.best_round,
                score=turn["score"],
                prompt=turn["prompt"],
                pieces=changes(before, turn["prompt"]),
                since=since,
                drawing=drawings[turn["best"]],
                others=[drawing for index, drawing in enumerate(drawings) if index != turn["best"]],
                cells=[requirement.cells[position] for requirement in rows],
                experience=learned.get(turn["number"], ""),
                seconds=turn["seconds"],
            )
        )
        before, since = turn["prompt"], f"round {turn['number']}"
    return turns


def _drawing(turn: Round, index: int, found: dict[str, bytes | str], side: int) -> Drawing:
    candidate = turn["candidates"][index]
    return Drawing(
        picture=shown(found[candidate["image"]], side if index == turn["best"] else _OTHER),
        candidate=candidate,
        score=turn["verdicts"][index]["score"],
    )


def _total(usage: dict[str, Usage]) -> Usage:
    total = NOTHING
    for used in usage.values():
        total = added(total, used)
    return total


def _asset(name: str) -> str:
    return (files("gems.reporting") / name).read_text(encoding="utf-8")
