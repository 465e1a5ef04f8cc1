"""What it takes to draw a whole suite, from what `benchmarks/engines.py` measured: for docs/cluster.md.

Accelerators are taken to be busy all the time, for which enough runs must be under way: while one run's image
is drawn, others wait for answers of the chat model. Carrying out runs takes processors as measured.

    python -m benchmarks.sizing [--samples 21395] [--images 2.8] [--image-s 1 4 15 60] [--chat-s 10]
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results" / "engines.json"
ACCELERATORS = (1, 8, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """What is to be drawn.

    Attributes:
        samples: Of the whole suite.
        images: For each sample, on average.
        chat_s: Seconds that the chat model takes for each image: to judge it and to write the next prompt.
        overhead_s: Seconds of one processor for each image.
    """

    samples: int
    images: float
    chat_s: float
    overhead_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What it takes with some accelerators.

    Attributes:
        image_s: Seconds of one accelerator for an image.
        accelerators: How many draw.
        hours: For the whole suite.
        runs: So many must be under way.
        processors: So many are busy with carrying them out.
    """

    image_s: float
    accelerators: int
    hours: float
    runs: int
    processors: int


def needs(suite: Suite, image_s: Sequence[float]) -> Iterator[Need]:
    """What the suite takes, by seconds for an image and by accelerators."""
    for each in image_s:
        for accelerators in ACCELERATORS:
            rate = accelerators / each
            yield Need(
                image_s=each,
                accelerators=accelerators,
                hours=suite.samples * suite.images / rate / 3600,
                # Little's law: a run spends this long on each image, and images leave at this rate.
                runs=math.ceil(rate * (each + suite.chat_s + suite.overhead_s)),
                processors=max(1, math.ceil(rate * suite.overhead_s)),
            )


def measured_overhead_s(results: Path = RESULTS) -> float:
    """Seconds of a processor for each image with Ray and one worker, as measured."""
    rows = json.loads(results.read_text(encoding="utf-8"))["tables"]["engines"]
    (row,) = [row for row in rows if (row["engine"], row["workers"]) == ("ray", 1)]
    return float(row["ms_per_sample_without_latency"]) / 1000


def markdown(found: Iterator[Need]) -> str:
    """The table."""
    lines = [
        "| Seconds per image | Accelerators | Whole suite | Runs at a time (`-j`) | Processors for them |",
        "|--:|--:|--:|--:|--:|",
    ]
    for need in found:
        cells = (f"{need.image_s:g}", need.accelerators, duration(need.hours), need.runs, need.processors)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def duration(hours: float) -> str:
    """Hours, and days where there are many."""
    return f"{hours:.1f} h" if hours < 100 else f"{hours / 24:.0f} days"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--samples", type=int, default=21_395)
    parser.add_argument("--images", type=float, default=2.8, help="for each sample")
    parser.add_argument("--image-s", type=float, nargs="+", default=[1, 4, 15, 60], help="seconds for an image")
    parser.add_argument("--chat-s", type=float, default=10, help="seconds of the chat model for each image")
    given = parser.parse_args()
    wanted = Suite(samples=given.samples, images=given.images, chat_s=given.chat_s, overhead_s=measured_overhead_s())
    print(markdown(needs(wanted, given.image_s)))
