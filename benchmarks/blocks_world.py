"""How well the built-in world plays its part: `python -m benchmarks.blocks_world [--out FILE] [--prompts N]`.

Over the shipped prompts, and by the scene that was really drawn, never by the judge's word: how many
prompts a single image meets in full, how many the loop of a run at its defaults meets, and how often the judge,
who sees nothing but a JPEG, agrees with the scene. It takes a quarter of a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks._results import write
from gems.models.blocks import BlocksPrompt, load_prompts, render, truth
from gems.models.blocks.detection import detect_scene
from gems.options import DEFAULT_ROUNDS
from gems.results import RunResult
from gems.service import Gems
from gems.settings import Settings
from gems.types import Profile, Round

ROUNDS = DEFAULT_ROUNDS["balanced"]


async def truths(gems: Gems, result: RunResult, turn: Round) -> list[bool]:
    """Which requirements the scene of a round's image really meets; of a mended one, what its pixels show."""
    candidate = turn["candidates"][turn["best"]]
    if turn.get("parent"):
        with Image.open(io.BytesIO(await gems.resources.images.load(candidate["image"]))) as picture:
            scene = detect_scene(picture.convert("RGB"))
    else:
        scene = render(turn["prompt"], candidate["seed"], candidate["width"], candidate["height"]).scene
    return [truth(scene, requirement.question) == "yes" for requirement in result.requirements]


@dataclass
class Tally:
    """Sums over prompts."""

    prompts: int = 0
    first: int = 0
    final: int = 0
    called_passed: int = 0
    wrongly_passed: int = 0
    images: int = 0
    asked: int = 0
    agreed: int = 0
    levels: dict[str, list[int]] = field(default_factory=dict)

    def add(self, case: BlocksPrompt, result: RunResult, facts: Sequence[list[bool]]) -> None:
        """Count one run with the truths of its rounds."""
        first, final = all(facts[0]), all(facts[result.best_round - 1])
        self.prompts += 1
        self.first += first
        self.final += final
        self.called_passed += result.passed
        self.wrongly_passed += result.passed and not final
        self.images += len(result.rounds)
        for turn, right in zip(result.rounds, facts, strict=True):
            answers = turn["verdicts"][turn["best"]]["answers"]
            self.asked += len(right)
            self.agreed += sum((a["answer"] == "yes") == yes for a, yes in zip(answers, right, strict=True))
        counts = self.levels.setdefault(case.difficulty, [0, 0, 0])
        for index, value in enumerate((1, first, final)):
            counts[index] += value

    def report(self) -> dict[str, Any]:
        """Shares in [0, 1]."""
        return {
            "prompts": self.prompts,
            "single_shot": self.first / self.prompts,
            "loop": self.final / self.prompts,
            "images_per_prompt": self.images / self.prompts,
            "called_passed": self.called_passed,
            "wrongly_passed": self.wrongly_passed,
            "judge_agreement": self.agreed / self.asked,
            "judge_questions": self.asked,
            "levels": {
                name: {"prompts": total, "single_shot": first / total, "loop": final / total}
                for name, (total, first, final) in self.levels.items()
            },
        }


async def measure(cases: Sequence[BlocksPrompt], profile: Profile, seed_offset: int) -> dict[str, Any]:
    """Carry out all runs, one after another."""
    tally, started = Tally(), time.perf_counter()
    with tempfile.TemporaryDirectory() as home:
        async with Gems(Settings(home=Path(home), skills="none")) as gems:
            for case in cases:
                # Each prompt alone: what runs learn from each other is for `memory_helps`.
                result = await gems.run(
                    case.prompt, seed=case.seed + seed_offset, max_rounds=ROUNDS, profile=profile, memory=False
                )
                tally.add(case, result, [await truths(gems, result, turn) for turn in result.rounds])
    return {**tally.report(), "seconds": round(time.perf_counter() - started, 1)}


def show(result: dict[str, Any]) -> None:
    """Print a table."""
    print(f"{'':12}{'prompts':>8}{'single shot':>13}{'loop':>8}")
    for name, part in {"all": result, **result["levels"]}.items():
        print(f"{name:12}{part['prompts']:>8}{part['single_shot']:>13.1%}{part['loop']:>8.1%}")
    print(f"images per prompt: {result['images_per_prompt']:.2f}")
    print(f"judge agrees with the scene: {result['judge_agreement']:.2%} of {result['judge_questions']} answers")
    print(f"called passed: {result['called_passed']}, wrongly: {result['wrongly_passed']}")
    print(f"seconds: {result['seconds']}")


def main() -> None:
    """Measure, print a table, and write the figures where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, help="also write the results there, as JSON")
    parser.add_argument("--prompts", type=int, default=None, help="only the first N prompts")
    parser.add_argument("--seed-offset", type=int, default=0, help="added to every seed")
    parser.add_argument("--profile", choices=["balanced", "paper"], default="balanced")
    options = parser.parse_args()
    cases = load_prompts()[: options.prompts]
    result = asyncio.run(measure(cases, options.profile, options.seed_offset))
    show(result)
    if options.out:
        write(options.out, "blocks_world", result)


if __name__ == "__main__":
    main()
