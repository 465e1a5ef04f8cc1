"""The parts of `benchmarks/cost.py`: what is counted, not how long it takes."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.cost import BALANCED, BASELINE, WAYS, at_a_time, held, held_at_a_time, table_at_a_time
from benchmarks.endpoint import REQUIREMENTS, counted, serving

LATENCIES = {"chat_s": 0.0, "image_s": 0.0, "draw_s": 0.0, "side": 64}
PROMPT = "a picture that needs 3 images #1"
ROUNDS = 3


async def figures(way: str) -> dict[str, Any]:
    """What a run whose third image is the right one is counted to."""
    with serving(**LATENCIES) as address:
        await WAYS[way](address, PROMPT)
        return counted(address)


async def test_balanced_asks_little_and_shows_each_image_small() -> None:
    found = await figures("balanced")
    # A look at each image, two reflections, three more looks at the last, and whether the judge sees.
    assert (found["drawings"], found["images"]) == (ROUNDS, ROUNDS + 2 + 3 + 1)
    assert found["calls"] <= found["images"] + 3


@pytest.mark.parametrize("way", [BASELINE, "paper"])
async def test_the_papers_pattern_asks_one_question_per_call(way: str) -> None:
    found = await figures(way)
    asked_about_images = ROUNDS * REQUIREMENTS + 2 * (ROUNDS - 1)
    # `refine` sees every earlier image.
    assert (found["drawings"], found["images"]) == (ROUNDS, asked_about_images + 1)
    assert found["calls"] - asked_about_images in (2, 3)


def test_a_bound_that_is_missed_is_told() -> None:
    row = {"seconds": 1.0, "calls": 1.0, "image_bytes": 1.0, "tokens": 1.0}
    checks = held({way: {5: row} for way in WAYS})
    assert {check["is_met"] for check in checks if check["most"] < 1} == {False}
    assert {check["is_met"] for check in checks if check["most"] > 1} == {True}


async def test_runs_at_a_time_draw_until_their_own_image_is_right() -> None:
    with serving(**LATENCIES) as address:
        found = await at_a_time(address, runs=3, repeats=1)
    # Route, enhance and decompose; seven questions to each of three images, and two calls between them.
    assert found[BASELINE]["calls"] == 3 + 3 * REQUIREMENTS + 2 * 2
    assert found[BALANCED]["calls"] <= 12
    assert all(figures["seconds"] > 0 and figures["cpu_ms_per_round"] > 0 for figures in found.values())


def test_a_bound_of_runs_at_a_time_that_is_missed_is_told() -> None:
    row = {"seconds": 1.0, "calls": 10.0, "cpu_ms_per_round": 50.0}
    found = {"16": {BASELINE: row, BALANCED: row | {"seconds": 0.5}}}
    met = {check["figure"]: check["is_met"] for check in held_at_a_time(found)}
    assert met == {"seconds": True, "calls": False, "cpu_ms_per_round": True}
    assert table_at_a_time(found)[-1] == "| 16 | 1.0, 0.5 | 0.50 | 10, 10 | 50, 50 |"
