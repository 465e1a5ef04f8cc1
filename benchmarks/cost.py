"""What a run costs and takes, beside the paper's way to call models.

Both talk over real HTTP to the same endpoint, which is as slow as real models are (see `endpoint.py`), about
a prompt with seven requirements whose first, third or fifth image is the right one. Times are wall times of
whole runs, with everything that belongs to a run of GEMS: checkpoints, ledger, images, experiences, saving.
Each run has a home of its own. Opening it, which a program does once, is not part of a run, and neither is
making the baseline's client.

Then so many runs at a time as `AT_A_TIME` says, whose third image is the right one: those of GEMS in one process with
one home and default limits, the baseline's each in a thread. Processor time is that of the client's whole process.

    python -m benchmarks.cost [--repeats 3] [--at-a-time 1 16 64] [--out benchmarks/results/cost.json]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import paper_pattern
from benchmarks._results import write
from benchmarks.endpoint import REQUIREMENTS, counted, serving
from gems.service import Gems
from gems.settings import ChatSettings, GeneratorSettings, Settings

BASELINE = "the paper's pattern"
BALANCED = "balanced"
NEEDED = (1, 3, 5)
USUAL = 3
"""Images that runs at a time need."""
AT_A_TIME = (1, 16, 64)
FIGURES = ("seconds", "drawings", "calls", "image_bytes", "tokens")


@dataclass(frozen=True)
class Bound:
    """A share of the baseline's figure that is not to be exceeded."""

    way: str
    needed: int
    figure: str
    most: float


@dataclass(frozen=True)
class LoadBound:
    """The most of a figure with so many runs at a time, as a share of the baseline's or by itself."""

    figure: str
    most: float
    is_share: bool = True


LOAD_BOUNDS = (LoadBound("seconds", 0.75), LoadBound("calls", 0.3), LoadBound("cpu_ms_per_round", 60, is_share=False))
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
    return await asyncio.to_thread(_by_pattern, base, prompt)


def _by_pattern(base: str, prompt: str) -> float:
    with paper_pattern.client(f"{base}/v1") as client:
        began = time.perf_counter()
        paper_pattern.run(client, prompt)
        return time.perf_counter() - began


def by_gems(**options: Any) -> Run:
    """A run of GEMS with these options."""

    async def run(base: str, prompt: str) -> float:
        async with opened(base) as gems:
            return await one(gems, prompt, **options)

    return run


@asynccontextmanager
async def opened(base: str) -> AsyncIterator[Gems]:
    """GEMS with a new home and default limits."""
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(
            home=Path(home),
            chat=ChatSettings(model=f"openai:stub@{base}/v1"),
            generator=GeneratorSettings(model=f"openai:stub@{base}/v1"),
        )
        async with Gems(settings) as gems:
            yield gems


async def one(gems: Gems, prompt: str, **options: Any) -> float:
    """A whole run; seconds it took."""
    began = time.perf_counter()
    # The endpoint says which of the images that are drawn anew is right.
    found = await gems.run(prompt, size="1024x1024", plateau=0, repair="never", **options)
    seconds = time.perf_counter() - began
    if found.stop_reason != "passed":
        raise SystemExit(f"A run stopped as {found.stop_reason}: {found.warnings}")
    return seconds


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


async def at_a_time(base: str, runs: int, repeats: int) -> dict[str, dict[str, float]]:
    """Medians of seconds per run, and means of the rest, with so many runs at a time."""
    samples: dict[str, list[dict[str, float]]] = {BASELINE: [], BALANCED: []}
    async with opened(base) as other:
        # Loads the libraries.
        await one(other, f"a picture that needs {USUAL} images #first")
    for turn in range(repeats):
        prompts = [f"a picture that needs {USUAL} images #{turn}{number}" for number in range(runs)]
        with ThreadPoolExecutor(runs) as pool:
            by_threads = partial(asyncio.get_running_loop().run_in_executor, pool, _by_pattern, base)
            samples[BASELINE].append(await _together(base, prompts, by_threads))
        async with opened(base) as gems:
            # A process opens its home and asks whether the model sees once.
            await one(gems, "a picture that needs 1 images #warm")
            samples[BALANCED].append(await _together(base, prompts, partial(one, gems)))
    return {
        way: {name: statistics.fmean(each[name] for each in found) for name in found[0]}
        for way, found in samples.items()
    }


async def _together(base: str, prompts: list[str], run: Callable[[str], Awaitable[float]]) -> dict[str, float]:
    """Begin a run of each prompt at once; their median of seconds, calls per run and processor time per round."""
    counted(base)
    before = time.process_time()
    seconds = await asyncio.gather(*(run(prompt) for prompt in prompts))
    cpu_s, counts = time.process_time() - before, counted(base)
    return {
        "seconds": statistics.median(seconds),
        "calls": counts["calls"] / len(prompts),
        "cpu_ms_per_round": cpu_s * 1000 / counts["drawings"],
    }


def held(found: dict[str, dict[int, dict[str, float]]]) -> list[dict[str, Any]]:
    """Each bound with what was measured."""
    checks = []
    for bound in BOUNDS:
        share = found[bound.way][bound.needed][bound.figure] / found[BASELINE][bound.needed][bound.figure]
        checks.append({**bound.__dict__, "share": share, "is_met": share <= bound.most})
    return checks


def held_at_a_time(found: dict[str, dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    """Each bound with what was measured, by the number of runs at a time."""
    checks = []
    for runs, ways in found.items():
        for bound in LOAD_BOUNDS:
            value = ways[BALANCED][bound.figure] / (ways[BASELINE][bound.figure] if bound.is_share else 1)
            checks.append({"runs": int(runs), **bound.__dict__, "value": value, "is_met": value <= bound.most})
    return checks


def table_at_a_time(found: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """The rows of docs/results.md, in Markdown: first the baseline's figure, then that of `balanced`."""
    rows = ["| runs at a time | seconds per run | share | chat calls | ms of processor time per round |"]
    rows += [f"|{' --- |' * 5}"]
    for runs, ways in found.items():
        base, ours = ways[BASELINE], ways[BALANCED]
        cells = [f"{base['seconds']:.1f}, {ours['seconds']:.1f}", f"{ours['seconds'] / base['seconds']:.2f}"]
        cells += [f"{base[name]:.0f}, {ours[name]:.0f}" for name in ("calls", "cpu_ms_per_round")]
        rows.append(f"| {runs} | {' | '.join(cells)} |")
    return rows


def show_at_a_time(found: dict[str, dict[str, dict[str, float]]], checks: list[dict[str, Any]]) -> None:
    """Print the table."""
    print("\n".join(["", *table_at_a_time(found)]))
    for check in checks:
        word, unit = "met" if check["is_met"] else "MISSED", " of the baseline" if check["is_share"] else ""
        print(
            f"{word:7}{check['runs']} at a time: {check['figure']} {check['value']:.3g}{unit}, at most {check['most']}"
        )


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
    parser.add_argument("--at-a-time", type=int, nargs="*", default=AT_A_TIME, metavar="RUNS")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with serving() as address:
        figures = asyncio.run(measured(address, arguments.repeats)) if arguments.repeats else {}
        # A single run is repeated as often as any other.
        loads = {
            str(runs): asyncio.run(at_a_time(address, runs, 1 if runs > 1 else max(1, arguments.repeats)))
            for runs in arguments.at_a_time
        }
    bounds, load_bounds = held(figures) if figures else [], held_at_a_time(loads)
    if figures:
        show(figures, bounds)
    show_at_a_time(loads, load_bounds)
    if arguments.out:
        found = {"figures": figures, "bounds": bounds, "at_a_time": loads, "load_bounds": load_bounds}
        write(arguments.out, "cost", {"repeats": arguments.repeats, **found})
