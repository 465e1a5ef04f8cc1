"""Many runs at a time in one process: how much of an endpoint's throughput is reached, in how much memory.

All runs begin at once and share an endpoint that is as slow as real models are (see `endpoint.py`), over real
HTTP, with 1024x1024 pictures that are as hard to compress as photographs. Each needs one image. What latency
allows: the drawings, one second each, so many at a time, and not a moment in which fewer are under way.

    python -m benchmarks.concurrency [--runs 256] [--drawings 8] [--out FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._results import write
from benchmarks.endpoint import Endpoint, serving
from gems.service import Gems
from gems.settings import ChatSettings, GeneratorSettings, Settings

MOST_MB = 400
LEAST_SHARE = 0.8
SIZE = "1024x1024"


def resident_mb(what: str) -> float:
    """Megabytes of memory of this process: `VmRSS` for now, `VmHWM` for the most it ever had."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


async def measured(base: str, runs: int, drawings: int) -> dict[str, Any]:
    """Carry out the runs."""
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(
            home=Path(home),
            # Four questions of 0.4 to 0.45 s for each drawing of 1.0 s: they are not to be what holds it up.
            chat=ChatSettings(model=f"openai:stub@{base}/v1", concurrency=4 * drawings),
            generator=GeneratorSettings(model=f"openai:stub@{base}/v1", concurrency=drawings),
        )
        async with Gems(settings) as gems:
            # The first run loads what all need.
            await one(gems, "warm")
            before = resident_mb("VmRSS")
            began, cpu = time.perf_counter(), time.process_time()
            seconds = await asyncio.gather(*(one(gems, str(number)) for number in range(runs)))
            wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    ideal = runs * Endpoint.draw_s / drawings
    return {
        "runs": runs,
        "drawings_at_a_time": drawings,
        "seconds": wall,
        "seconds_that_latency_allows": ideal,
        "share_of_throughput": ideal / wall,
        "cpu_s_per_run": cpu / runs,
        "median_run_s": statistics.median(seconds),
        "rss_before_mb": before,
        "rss_peak_mb": resident_mb("VmHWM"),
    }


async def one(gems: Gems, number: str) -> float:
    """A whole run; seconds it took. Its picture is let go, as a server does once it is sent."""
    began = time.perf_counter()
    found = await gems.run(f"a picture that needs 1 images #{number}", size=SIZE)
    if found.stop_reason != "passed":
        raise SystemExit(f"A run stopped as {found.stop_reason}: {found.warnings}")
    return time.perf_counter() - began


def show(found: dict[str, Any]) -> None:
    """Print the table."""
    for name, value in found.items():
        print(f"{name:30}{value:12,.3f}")
    met = found["rss_peak_mb"] <= MOST_MB
    print(f"{'met' if met else 'MISSED':7}at most {MOST_MB} MB of memory")
    met = found["share_of_throughput"] >= LEAST_SHARE
    print(f"{'met' if met else 'MISSED':7}at least {LEAST_SHARE:.0%} of the throughput that latency allows")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=256)
    parser.add_argument("--drawings", type=int, default=8, help="at a time")
    parser.add_argument("--out", type=Path, help="also write the results there, as JSON")
    arguments = parser.parse_args()
    with serving() as address:
        figures = asyncio.run(measured(address, arguments.runs, arguments.drawings))
    show(figures)
    if arguments.out:
        write(arguments.out, "concurrency", figures)
