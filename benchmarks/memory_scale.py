"""How memory scales: `python -m benchmarks.memory_scale [--items 100000] [--out FILE]`.

Fills a local store with invented experiences in batches, by the `lexical` embedder, and looks for lessons as
a reflector does. Prints insertions per second, the time of a retrieval, and the process's greatest memory.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from langgraph.store.base import PutOp

from benchmarks._results import write
from gems.memory.experience import EXPERIENCES, indexed_text, namespace, no_record, now
from gems.memory.retrieval import LessonQuery, recall
from gems.memory.store import open_store

BATCH = 500
BOUNDS = {"insertions_per_s": 200, "retrieval_p95_ms": 50, "memory_mb": 1500}
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def experience(rng: random.Random, words: list[str], number: int) -> dict[str, Any]:
    """An experience of the usual size: a prompt of 20 words, 3 failed questions, a text of 60 words."""

    def text(length: int) -> str:
        return " ".join(rng.choices(words, k=length))

    prompt = text(20)
    failed = [{"kind": "count", "question": f"Is there {text(6)}?"} for _ in range(3)]
    return {
        "run": f"run{number // 4}",
        "round": number % 4 + 1,
        "prompt": prompt,
        "generator": "flat",
        "skills": [],
        "failed": failed,
        "passed": [],
        "text": text(60),
        "next_prompt": text(30),
        "score": 0.5,
        "score_after": 0.75,
        "failed_after": failed[:1],
        "passed_after": failed[1:],
        "at": now(),
        "record": no_record(),
        "text_indexed": indexed_text(prompt, [item["question"] for item in failed]),
    }


async def measure(items: int, queries: int) -> dict[str, float]:
    """Fill a store and look things up in it."""
    rng = random.Random(7)
    words = ["".join(rng.choices(_LETTERS, k=rng.randint(3, 9))) for _ in range(5000)]
    place = namespace(EXPERIENCES, "flat")
    with tempfile.TemporaryDirectory() as home:
        async with open_store("", Path(home) / "experience", "lexical") as store:
            spent = 0.0
            for start in range(0, items, BATCH):
                numbers = range(start, min(start + BATCH, items))
                ops = [PutOp(place, str(number), experience(rng, words, number)) for number in numbers]
                began = time.perf_counter()
                await store.abatch(ops)
                spent += time.perf_counter() - began
            times = []
            for _ in range(queries):
                asked = experience(rng, words, 0)
                wanted = LessonQuery(
                    prompt=asked["prompt"],
                    generator="flat",
                    without=frozenset({"mine"}),
                    failing=[item["question"] for item in asked["failed"]],
                    kinds=frozenset({"count"}),
                )
                began = time.perf_counter()
                found = await recall(store, wanted)
                times.append(1000 * (time.perf_counter() - began))
                if not found:
                    raise SystemExit("A retrieval found nothing.")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    times.sort()
    return {
        "items": items,
        "insertions_per_s": items / spent,
        "retrieval_p50_ms": times[len(times) // 2],
        "retrieval_p95_ms": times[int(len(times) * 0.95)],
        "memory_mb": peak,
    }


def main() -> None:
    """Measure, print a table, and write the figures where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--out", type=Path, help="also write the results there, as JSON")
    options = parser.parse_args()
    found = asyncio.run(measure(options.items, options.queries))
    if options.out:
        write(options.out, "memory_scale", {"measured": found, "bounds": BOUNDS})
    bounds = {
        "insertions_per_s": f"(bound: at least {BOUNDS['insertions_per_s']})",
        "retrieval_p95_ms": f"(bound: at most {BOUNDS['retrieval_p95_ms']})",
        "memory_mb": f"(bound: at most {BOUNDS['memory_mb']})",
    }
    for name, value in found.items():
        print(f"{name:20}{value:12,.1f}  {bounds.get(name, '')}".rstrip())


if __name__ == "__main__":
    main()
