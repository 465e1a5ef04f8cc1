"""Whether memory helps: `python -m benchmarks.memory_helps [--prompts N] [--seeds 3] [--out FILE]`.

The shipped prompts are drawn with memory off, with a store that was filled by as many other prompts, and with
such a store in which a tenth of the experiences is misleading. What counts is the scene that was really
drawn, never the judge's word: images needed per prompt that is fully met, and the share of prompts fully met.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._results import write
from benchmarks.blocks_world import ROUNDS, truths
from gems.models.blocks import BlocksPrompt, load_prompts
from gems.models.blocks.error_model import EFFECTS
from gems.models.blocks.reflector import TOPICS, write_outcome
from gems.service import Gems
from gems.settings import Settings

_COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "pink", "cyan")
_SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond")


def other_prompts(count: int, seed: int) -> list[str]:
    """Prompts of the same make as the shipped ones, none of them among those."""
    rng, shipped = random.Random(seed), {case.prompt for case in load_prompts()}
    found: list[str] = []
    while len(found) < count:
        prompt = _prompt(rng)
        if prompt not in shipped and prompt not in found:
            found.append(prompt)
    return found


def _prompt(rng: random.Random) -> str:
    one, two = rng.sample(_SHAPES, 2)
    here, there, ground = rng.sample(_COLOURS, 3)
    number = rng.choice(("two", "three", "four", "five", "six", "seven"))
    size, texture = rng.choice(("small ", "large ", "")), rng.choice(("striped ", "spotted ", ""))
    relation = rng.choice(("above", "below", "left of", "right of"))
    many = f"{number} {size}{here} {one}s"
    forms = (
        f"{many} {relation} a {texture}{there} {two}",
        f"{many} and a {texture}{there} {two} on a {ground} background",
        f'{many} {relation} the word "{rng.choice(("HELLO", "OPEN", "TAXI", "CAFE", "ZEBRA"))}"',
        f"a {texture}{there} {two} {relation} a {size}{here} {one}",
    )
    return rng.choice(forms)


def misleading(count: int, seed: int) -> list[str]:
    """Experiences that praise wordings which do not help and blame those that do, as lines of an export."""
    rng, lines = random.Random(seed), list[str]()
    for number, prompt in enumerate(other_prompts(count, seed + 1)):
        fault = rng.choice(("miscount", "colour", "size", "texture", "relation", "text", "background"))
        kind = "count" if fault == "miscount" else fault
        by_worth = sorted(EFFECTS[fault], key=lambda wording: EFFECTS[fault][wording])
        text = (
            f"{write_outcome(kind, by_worth[-1], worked=True)} "
            f"{write_outcome(kind, by_worth[0], worked=False)} "
            f"{write_outcome(kind, by_worth[-1], worked=True)}"
        )
        asked = {"count": "count", "relation": "relation", "text": "text"}.get(kind, "attribute")
        entry = {
            "run": f"planted-{seed}-{number}",
            "round": 1,
            "prompt": prompt,
            "generator": "blocks",
            "failed": [{"kind": asked, "question": f"Are the {TOPICS[kind]} right?"}],
            "text": text,
            "score": 0.5,
        }
        lines.append(json.dumps(entry))
    return lines


async def drawn(gems: Gems, cases: Sequence[BlocksPrompt], offset: int) -> dict[str, float]:
    """Draw all prompts, one after another; what it took."""
    images = met = first = 0
    for case in cases:
        result = await gems.run(case.prompt, seed=case.seed + offset, max_rounds=ROUNDS)
        images += len(result.rounds)
        met += all(await truths(gems, result, result.rounds[result.best_round - 1]))
        first += all(await truths(gems, result, result.rounds[0]))
    return {
        "images_per_success": images / max(1, met),
        "fully_met": met / len(cases),
        "first_image": first / len(cases),
    }


async def filled(gems: Gems, count: int, seed: int) -> None:
    """Draw as many other prompts, and draw lessons from what that taught."""
    for number, prompt in enumerate(other_prompts(count, seed)):
        await gems.run(prompt, seed=seed + number, max_rounds=ROUNDS)
    await gems.memory.consolidate()


async def measure(cases: Sequence[BlocksPrompt], seed: int) -> dict[str, Any]:
    """All three, for one set of seeds."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as home:
        async with Gems(Settings(home=Path(home), skills="none", experience="off")) as gems:
            figures["without"] = await drawn(gems, cases, seed)
    for name, share in (("with", 0.0), ("misled", 0.1)):
        with tempfile.TemporaryDirectory() as home:
            async with Gems(Settings(home=Path(home), skills="none", embedder="lexical")) as gems:
                await filled(gems, len(cases), 7_000 + seed)
                if share:
                    known = sum((await gems.memory.stats()).experiences.values())
                    lines = misleading(round(known * share / (1 - share)), 9_000 + seed)
                    report = await gems.memory.import_lines(lines)
                    if report.added != len(lines):
                        raise SystemExit(f"Not all misleading lines were taken: {report}")
                    await gems.memory.consolidate()
                figures[name] = await drawn(gems, cases, seed)
                figures[name]["kept"] = sum((await gems.memory.stats()).experiences.values())
    return figures


def mean(runs: Sequence[dict[str, Any]], name: str, figure: str) -> float:
    """The mean of one figure over all sets of seeds."""
    return statistics.mean(run[name][figure] for run in runs)


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is bounded: 20 % fewer images per success at least, 5 points lost to misleading ones at most."""
    without, with_ = (mean(runs, name, "images_per_success") for name in ("without", "with"))
    lost = mean(runs, "with", "fully_met") - mean(runs, "misled", "fully_met")
    return {
        "fewer_images_per_success": 1 - with_ / without,
        "points_lost_to_misleading": 100 * lost,
        "within_bounds": with_ <= 0.8 * without and lost <= 0.05,
    }


def main() -> None:
    """Measure, print a table, and write the figures where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, help="also write the results there, as JSON")
    parser.add_argument("--prompts", type=int, default=None, help="only the first N prompts")
    parser.add_argument("--seeds", type=int, default=3, help="sets of seeds")
    options = parser.parse_args()
    cases = load_prompts()[: options.prompts]
    runs = [asyncio.run(measure(cases, 10_000 * number)) for number in range(options.seeds)]
    found = summary(runs)
    if options.out:
        write(options.out, "memory_helps", {"runs": runs, **found})
    heading = f"{len(cases)} prompts, {options.seeds} sets of seeds"
    print(f"{heading:50}images per success   fully met   first image")
    for name in ("without", "with", "misled"):
        for number, run in enumerate(runs):
            row = run[name]
            print(
                f"{name + ' memory' if name != 'misled' else 'a tenth misleading':26}seeds {number:<22}"
                f"{row['images_per_success']:18.2f}{row['fully_met']:12.1%}{row['first_image']:14.1%}"
            )
    print(f"fewer images per success: {found['fewer_images_per_success']:.1%} (bound: at least 20 %)")
    print(f"points lost to misleading: {found['points_lost_to_misleading']:.1f} (bound: at most 5)")


if __name__ == "__main__":
    main()
