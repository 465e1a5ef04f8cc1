"""Whether exported pairs are in the true order: `python -m benchmarks.training_pairs [--prompts N] [--out FILE]`.

The shipped prompts are drawn under judges that err in 0, 5 and 10 of 100 answers, half of these the same way each
time they look. The truth is what the built-in world's detector sees in the pixels of both images.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks._results import write
from gems.models.blocks import chat_model, load_prompts
from gems.models.blocks.detection import Detector
from gems.models.blocks.judge import Judgement, judge_question
from gems.models.blocks.scene import Scene
from gems.results import RunResult
from gems.runs.training_rows import ExportOptions, find_pairs
from gems.service import Gems
from gems.settings import Settings

ERRORS = (0.0, 0.05, 0.1)
_REPEATED = 0.5
"""Share of the errors that a judge repeats."""


@contextmanager
def erring(rate: float) -> Iterator[None]:
    """Let the built-in judge say the opposite now and then."""
    looks: Counter[tuple[str, str]] = Counter()

    def judge(question: str, scene: Scene | None) -> Judgement:
        if scene is None:
            return Judgement("unknown", "There is no picture that I could open.")
        found = judge_question(question, scene)
        key = (repr(scene), question)
        looks[key] += 1
        always, once = random.Random(f"{key}"), random.Random(f"{key}{looks[key]}")
        is_wrong = always.random() < rate * _REPEATED or once.random() < rate * (1 - _REPEATED)
        if not is_wrong or found.answer == "unknown":
            return found
        return Judgement("no" if found.answer == "yes" else "yes", "I look again and see something else.")

    with patch.object(chat_model, "_judge", judge):
        yield


async def measure(rate: float, prompts: int, seeds: int) -> dict[str, Any]:
    """Run the prompts under one judge, and count the pairs by whether their order is true."""
    counted: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    detector = Detector()
    with tempfile.TemporaryDirectory() as home, erring(rate):
        async with Gems(Settings(home=Path(home), skills="none")) as gems:
            for case in load_prompts()[-prompts:]:
                for seed in range(seeds):
                    result = await gems.run(case.prompt, seed=case.seed + seed, memory=False, size="256x256")
                    for pair in find_pairs(result, ExportOptions(unconfirmed=True)):
                        chosen, rejected = [
                            met(result, await gems.resources.images.load(judged.image), detector)
                            for judged in (pair.chosen, pair.rejected)
                        ]
                        order = "true" if chosen > rejected else "tie" if chosen == rejected else "false"
                        counted[pair.is_confirmed][order] += 1
    every = counted[True] + counted[False]
    return {"error": rate, "confirmed": summarise(counted[True]), "all": summarise(every)}


def met(result: RunResult, data: bytes, detector: Detector) -> int:
    """Return how many requirements the pixels really meet."""
    scene = detector.detect(data)
    return sum(judge_question(item.question, scene).answer == "yes" for item in result.requirements)


def summarise(counts: Counter[str]) -> dict[str, Any]:
    """Return the number of pairs, and the shares whose order is true, false, or a tie."""
    total = counts.total()
    return {"pairs": total} | {name: counts[name] / total if total else None for name in ("true", "false", "tie")}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = [asyncio.run(measure(rate, given.prompts, given.seeds)) for rate in ERRORS]
    for row in found:
        print(f"the judge errs {row['error']:.0%}:", row["confirmed"], row["all"])
    if given.out:
        write(given.out, "training_pairs", {"order": found})


if __name__ == "__main__":
    main()
