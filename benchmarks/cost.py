"""What a run costs and takes, beside the paper's way to call models.

Both talk over real HTTP to the same endpoint, which is as slow as real models are (see `endpoint.py`), about
a prompt with seven requirements whose first, third or fifth image is the right one. Times are wall times of
whole runs, with everything that belongs to a run of GEMS: checkpoints, ledger, images, experiences, saving.
Each run has a home of its own. Opening it, which a program does once, is not part of a run, and neither is
making the baseline's client.

    python -m benchmarks.cost [--repeats 3] [--out benchmarks/results/cost.json]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import paper_pattern
from benchmarks._results import write
from benchmarks.endpoint import REQUIREMENTS, counted, serving
from gems.service import Gems
from gems.settings import ChatSettings, GeneratorSettings, Settings

BASELINE = "the paper's pattern"
NEEDED = (1, 3, 5)
FIGURES = ("seconds", "drawings", "calls", "image_bytes", "tokens")


@dataclass(frozen=True)
class Bound:
    """A share of the baseline's figure that is not to be exceeded."""

    way: str
    needed: int
    figure: str
    most: float


BOUNDS = (
    Bound("balanced", 5, "seconds", 0.7),
    Bound("balanced, 2 candidates", 5, "seconds", 0.5),
    Bound("balanced", 5, "calls", 0.3),
    Bound("balanced", 5, "image_bytes", 0.03),
    Bound("balanced", 5, "tokens", 0.6),
    Bound("paper", 5, "seconds", 1.05),
)
Run = Callable[[str, str], Awaitable[float]]
"""Carries out a run on the endpoint at an address, of a prompt; seconds it took."""


async def by_pattern(base: str, prompt: str) -> float:
    """The baseline."""

    def run() -> float:
        with paper_pattern.client(f"{base}/v1") as client:
            began = time.perf_counter()
            paper_pattern.run(client, prompt)
            return time.perf_counter() - began

    return await asyncio.to_thread(run)


def by_gems(**options: Any) -> Run:
    """A run of GEMS with these options."""

    async def run(base: str, prompt: str) -> float:
        with tempfile.TemporaryDirectory() as home:
            settings = Settings(
                home=Path(home),
                chat=ChatSettings(model=f"openai:stub@{base}/v1", concurrency=10),
                generator=GeneratorSettings(model=f"openai:stub@{base}/v1"),
            )
            async with Gems(settings) as gems:
                began = time.perf_counter()
                # The endpoint says which of the images that are drawn anew is right.
                found = await gems.run(prompt, size="1024x1024", plateau=0, repair="never", **options)
                seconds = time.perf_counter() - began
        if found.stop_reason != "passed":
            raise SystemExit(f"A run stopped as {found.stop_reason}: {found.warnings}")
        return seconds

    return run


WAYS: dict[str, Run] = {
    BASELINE: by_pattern,
    "balanced": by_gems(),
    "balanced, 2 candidates": by_gems(candidates=2),
    "paper": by_gems(profile="paper"),
}


async def measured(base: str, repeats: int) -> dict[str, dict[int, dict[str, float]]]:
    """The medians of each way and length; ways take turns, so that what else the machine does befalls all."""
    samples: dict[str, dict[int, list[dict[str, float]]]] = {way: {needed: [] for needed in NEEDED} for way in WAYS}
    for turn in range(-1, repeats):
        for needed in NEEDED if turn >= 0 else NEEDED[:1]:
            for way, run in WAYS.items():
                counted(base)
                seconds = await run(base, f"a picture that needs {needed} images #{turn + 1}")
                if turn >= 0:
                    samples[way][needed].append({"seconds": seconds, **counted(base)})
    return {
        way: {
            needed: {name: statistics.median(each[name] for each in found) for name in FIGURES}
            for needed, found in lengths.items()
        }
        for way, lengths in samples.items()
    }


def held(found: dict[str, dict[int, dict[str, float]]]) -> list[dict[str, Any]]:
    """Each bound with what was measured."""
    checks = []
    for bound in BOUNDS:
        share = found[bound.way][bound.needed][bound.figure] / found[BASELINE][bound.needed][bound.figure]
        checks.append({**bound.__dict__, "share": share, "is_met": share <= bound.most})
    return checks


def show(found: dict[str, dict[int, dict[str, float]]], checks: list[dict[str, Any]]) -> None:
    """Print the tables."""
    print(f"{REQUIREMENTS} requirements, 1024x1024; in brackets the share of the baseline")
    print(f"{'':26}{'images':>7}{'seconds':>16}{'calls':>13}{'image MB':>16}{'prompt tokens':>18}")
    for needed in NEEDED:
        for way in WAYS:
            row, base = found[way][needed], found[BASELINE][needed]
            cells = [f"{row['drawings']:7.0f}"]
            for name, width, scale, form in (
                ("seconds", 8, 1.0, ".2f"),
                ("calls", 5, 1.0, ".0f"),
                ("image_bytes", 8, 1e-6, ".2f"),
                ("tokens", 10, 1.0, ",.0f"),
            ):
                cells.append(f"{row[name] * scale:{width}{form}} ({row[name] / base[name]:5.3f})")
            print(f"{way:26}{' '.join(cells)}")
        print()
    for check in checks:
        word = "met" if check["is_met"] else "MISSED"
        print(
            f"{word:7}{check['way']}, {check['needed']} images needed: {check['figure']} "
            f"{check['share']:.3f} of the baseline, at most {check['most']}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with serving() as address:
        figures = asyncio.run(measured(address, arguments.repeats))
    bounds = held(figures)
    show(figures, bounds)
    if arguments.out:
        write(arguments.out, "cost", {"repeats": arguments.repeats, "figures": figures, "bounds": bounds})
