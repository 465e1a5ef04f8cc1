"""HTML report: grid, chart, lessons."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib.resources import files
from typing import Any, Literal

from markupsafe import Markup

from gems._version import __version__
from gems.memory.experience import lesson_credits
from gems.memory.images import ImageStore
from gems.memory.retrieval import format_lesson
from gems.nodes.generator import count_images
from gems.reporting.templates import diff_prompts, environment, load_images, make_thumbnail, policy_hash
from gems.reporting.trajectory import build_tree, by_number, describe_round, has_branches
from gems.results import CheckedRequirement, RunResult
from gems.types import Answer, Requirement, Round, RunRow, total_usage

State = Literal["yes", "no", "unknown", "none"]
_STATE_SIGNS: dict[State, str] = {"yes": "✓", "no": "✗", "unknown": "?", "none": "–"}  # noqa: RUF001 - a sign
_STATE_WORDS: dict[State, str] = {"yes": "met", "no": "not met", "unknown": "unknown", "none": "not asked"}
_MAX_LABELS = 12
_MANY_ROUNDS = 16
"""With more rounds, their images are smaller, so that the page stays within a few megabytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One requirement in one round."""

    round: int
    state: State
    lost: bool
    """Not met, although an earlier round met it."""
    gained: bool
    """Met, although the round before did not meet it."""
    question: str
    evidence: str
    likely: str
    """The probability of yes as text; empty if it is not known."""
    source: str
    sign: str
    word: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One requirement in all rounds."""

    question: str
    cells: list[Cell]

    @property
    def lost_in(self) -> list[int]:
        """The rounds that lost it."""
        pairs = zip(self.cells, self.cells[1:], strict=False)
        return [cell.round for before, cell in pairs if cell.lost and before.state == "yes"]

    @property
    def is_lost(self) -> bool:
        """Whether the last round does not meet what an earlier one met."""
        return bool(self.cells) and self.cells[-1].lost


def matrix(requirements: Sequence[CheckedRequirement], rounds: Sequence[Round]) -> list[Row]:
    """Return one row per requirement with a cell per round, for the round's best image."""
    answers = [
        {answer["requirement"]: answer for answer in round_["verdicts"][round_["best"]]["answers"]} for round_ in rounds
    ]
    return [Row(question=item.question, cells=_cells(item, rounds, answers)) for item in requirements]


def _cells(
    requirement: CheckedRequirement, rounds: Sequence[Round], answers: Sequence[dict[str, Answer]]
) -> list[Cell]:
    cells: list[Cell] = []
    was_met = False
    for round_, found in zip(rounds, answers, strict=True):
        answer = found.get(requirement.id)
        state: State = answer["answer"] if answer else "none"
        lost = was_met and state == "no"
        probability = answer["probability"] if answer else None
        cells.append(
            Cell(
                round=round_["number"],
                state=state,
                lost=lost,
                gained=state == "yes" and bool(cells) and cells[-1].state != "yes",
                question=requirement.question,
                evidence=answer["evidence"] if answer else "",
                likely="" if probability is None else f"{probability:.0%} yes",
                source=answer["source"] if answer else "",
                sign=_STATE_SIGNS[state],
                word="lost" if lost else _STATE_WORDS[state],
            )
        )
        was_met = was_met or state == "yes"
    return cells


LEFT, RIGHT, TOP, BOTTOM = 9.0, 96.0, 9.0, 80.0


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
        f"{100 * _x_share(n, len(rounds)):.2f},{100 - 100 * round_['score']:.2f}" for n, round_ in enumerate(rounds)
    )
    said = ", ".join(f"round {round_['number']}: {round_['score']:.0%}" for round_ in rounds)
    grid = [(_y_percent(share), f"{share:.0%}") for share in (0.0, 0.5, 1.0)]
    return Chart(dots=dots, line=line, grid=grid, said=said)


def _x_share(position: int, count: int) -> float:
    """Return the horizontal position in [0, 1]; a single round is in the middle."""
    return position / (count - 1) if count > 1 else 0.5


def _y_percent(score: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * score


_HERO, _ROUND, _OTHER = 1024, 640, 200
"""Longest sides in pixels."""


async def report_page(result: RunResult, row: RunRow, images: ImageStore, lessons: Sequence[str] = ()) -> str:
    """Render a run and lines about its `lessons` as one HTML page, which names missing images."""
    image_ids = {candidate["image"] for round_ in result.rounds for candidate in round_["candidates"]}
    if "source" in result.options:
        image_ids.add(result.options["source"])
    loaded = await load_images(images, image_ids)
    # Scaling images would block other runs on this event loop.
    return await asyncio.to_thread(_render, result, row, loaded, lessons)


def _render(result: RunResult, row: RunRow, loaded: dict[str, bytes | str], lessons: Sequence[str]) -> str:
    rows = matrix(result.requirements, result.rounds)
    best = next((round_ for round_ in result.rounds if round_["number"] == result.best_round), None)
    source = result.options.get("source")
    style, script = _read_asset("page.css"), _read_asset("page.js")
    return (
        environment("gems.reporting")
        .get_template("page.html.jinja")
        .render(
            result=result,
            met=sum(item.answer == "yes" for item in result.requirements),
            hero=make_thumbnail(loaded[result.image_id], _HERO) if result.image_id else None,
            source=make_thumbnail(loaded[source], _OTHER) if source else None,
            best=best["candidates"][best["best"]] if best else None,
            rows=rows,
            turns=_page_rounds(result, rows, loaded),
            chart=chart(result.rounds, result.best_round) if result.rounds else None,
            tree=build_tree(result.rounds) if has_branches(result.rounds) else [],
            describe=partial(describe_round, questions={item.id: item.question for item in result.requirements}),
            lessons=lessons,
            total=total_usage(result.usage),
            begun=datetime.fromisoformat(row["created"]),
            updated=datetime.fromisoformat(row["updated"]),
            images=count_images(result.rounds),
            style=Markup(style),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - our own file
            style_hash=policy_hash(style),
            script_hash=policy_hash(script),
            version=__version__,
        )
    )


def _page_rounds(result: RunResult, rows: list[Row], loaded: dict[str, bytes | str]) -> list[dict[str, Any]]:
    """Return the rounds as the template shows them; each prompt is compared with the one before."""
    experiences = {experience["round"]: experience["text"] for experience in result.experiences}
    side = _ROUND if len(result.rounds) <= _MANY_ROUNDS else _ROUND // 2
    shown: list[dict[str, Any]] = []
    branches = by_number(build_tree(result.rounds))
    questions = {item.id: item.question for item in result.requirements}
    before, since = result.prompt, "your prompt"
    for position, round_ in enumerate(result.rounds):
        drawings = [
            {
                "picture": make_thumbnail(loaded[candidate["image"]], side if index == round_["best"] else _OTHER),
                "candidate": candidate,
                "score": round_["verdicts"][index]["score"],
            }
            for index, candidate in enumerate(round_["candidates"])
        ]
        shown.append(
            {
                "number": round_["number"],
                "best": round_["number"] == result.best_round,
                "score": round_["score"],
                "prompt": round_["prompt"],
                "pieces": diff_prompts(before, round_["prompt"]),
                "since": since,
                "drawing": drawings.pop(round_["best"]),
                "others": drawings,
                "cells": [row.cells[position] for row in rows],
                "made": describe_round(branches[round_["number"]], questions),
                "instruction": round_.get("instruction", ""),
                "experience": experiences.get(round_["number"], ""),
                "seconds": round_["seconds"],
            }
        )
        before, since = round_["prompt"], f"round {round_['number']}"
    return shown


def _read_asset(name: str) -> str:
    return (files("gems.reporting") / name).read_text(encoding="utf-8")


def lesson_lines(result: RunResult) -> list[str]:
    """Return one line per lesson and round: when it was used, its text, and whether it held."""
    judged = {round_["number"] for round_ in result.rounds}
    requirements: list[Requirement] = [
        {"id": item.id, "question": item.question, "kind": item.kind, "parents": item.parents}
        for item in result.requirements
    ]
    lines = []
    for recall in result.recalls:
        if recall["round"] not in judged:
            lines += [f"Round {recall['round']}: {format_lesson(lesson)}" for lesson in recall["lessons"]]
            continue
        credit_list = lesson_credits(recall, result.rounds, requirements)
        for lesson, credit in zip(recall["lessons"], credit_list, strict=True):
            outcome = "It held." if credit["helped"] else "It did not hold." if credit["hurt"] else ""
            lines.append(f"Round {recall['round']}: {format_lesson(lesson)} {outcome}".strip())
    return lines
