"""Whether skills help: `python -m benchmarks.skills_help [--prompts N] [--seeds 3] [--out FILE]`.

The shipped prompts are drawn without skills, with those that the planner chooses by itself, and with three
that are named for every prompt, memory off. What counts is the scene that was really drawn, never the judge's
word. The built-in world's rules stand in for a chat model, so this shows that the machinery does its part;
what the skills' words do for real models it cannot show.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks._results import write
from benchmarks.blocks_world import ROUNDS, truths
from gems.models.blocks import BlocksPrompt, load_prompts
from gems.service import Gems
from gems.settings import Settings

NAMED = "counting-and-binding,spatial-layout,text-rendering"
WAYS = {"none": "none", "auto": "auto", "named": NAMED}


async def drawn(gems: Gems, cases: Sequence[BlocksPrompt], offset: int, skills: str) -> dict[str, float]:
    """Draw all prompts, one after another; what it took."""
    images = met = first = used = wrong = 0
    for case in cases:
        result = await gems.run(case.prompt, seed=case.seed + offset, max_rounds=ROUNDS, skills=skills)
        right = all(await truths(gems, result, result.rounds[result.best_round - 1]))
        images += len(result.rounds)
        met += right
        first += all(await truths(gems, result, result.rounds[0]))
        used += bool(result.skill_uses)
        wrong += result.passed and not right
    return {
        "images_per_success": images / max(1, met),
        "fully_met": met / len(cases),
        "first_image": first / len(cases),
        "prompts_with_skills": used / len(cases),
        "wrongly_passed": wrong,
    }


async def measure(cases: Sequence[BlocksPrompt], offset: int) -> dict[str, dict[str, float]]:
    """All three, for one set of seeds."""
    with tempfile.TemporaryDirectory() as home:
        async with Gems(Settings(home=Path(home), experience="off")) as gems:
            return {name: await drawn(gems, cases, offset, skills) for name, skills in WAYS.items()}


def main() -> None:
    """Print a table of means over the sets of seeds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--prompts", type=int, help="so many of the shipped prompts; all by default")
    parser.add_argument("--seeds", type=int, default=3, help="sets of seeds")
    parser.add_argument("--out", type=Path, help="also write the results there, as JSON")
    options = parser.parse_args()
    cases = load_prompts()[: options.prompts]
    runs = [asyncio.run(measure(cases, 1_000 * number)) for number in range(1, options.seeds + 1)]
    if options.out:
        write(options.out, "skills_help", {"runs": runs})
    names = list(runs[0]["none"])
    print(f"{'skills':8}" + "".join(f"{name:>22}" for name in names))
    for way in WAYS:
        means = (statistics.mean(run[way][name] for run in runs) for name in names)
        print(f"{way:8}" + "".join(f"{value:22.2f}" for value in means))


if __name__ == "__main__":
    main()
