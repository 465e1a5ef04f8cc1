"""Whether changes prove themselves: `python -m benchmarks.evolution [--out FILE] [--tries N] [--noise N]`.

Three proofs. In the built-in world its table of weaknesses is changed, so that another wording is heeded than its
skills and its reflector expect: is the right amendment found, proven and adopted within a budget? Of proposals that do
nothing, how many are adopted? And of harmful ones? The last two are answered by outcomes that are drawn by chance and
decided by the statistics of the trials, since 200 real trials of each would take hours, and by a few real trials. It
takes about ten minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks._results import write
from gems.evolution import Evolution, TrialRequest
from gems.evolution.significance import Plan, count_pairs, share_of_alpha
from gems.memory.patches import Evidence, Patch
from gems.models.blocks import error_model
from gems.service import Gems
from gems.settings import Settings

BUDGET = 300
"""Images of a trial."""
_NUMBERS, _SHAPES = ("four", "five", "six", "seven"), ("circles", "squares", "triangles", "stars", "hearts")
_COLOURS = ("red", "blue", "green", "yellow", "purple", "orange")
HEEDED = {"miscount": {"repeat": 0.05, "important": 1.0, "exactly": 1.0}}
"""Counts are right if they are repeated; by default they are if `exactly` is said."""
HELD, KEEP, LEARN = 40, 30, 12
_BATCH = 8


def prompts(number: int, seed: int) -> list[str]:
    """Different prompts with three counted groups."""
    chance, found = random.Random(seed), dict[str, None]()
    while len(found) < number:
        groups = zip(chance.sample(_COLOURS, 3), chance.sample(_SHAPES, 3), strict=True)
        found["{}, {} and {}".format(*(f"{chance.choice(_NUMBERS)} {colour} {shape}" for colour, shape in groups))] = (
            None
        )
    return list(found)


def plain_prompts(number: int) -> list[str]:
    """Different prompts that pass today."""
    pairs = ((colour, shape.removesuffix("s")) for shape in _SHAPES for colour in _COLOURS)
    return [f"a {colour} {shape}" for colour, shape in pairs][:number]


@contextmanager
def heeding(changes: Mapping[str, Mapping[str, float]]) -> Iterator[None]:
    """Change what the built-in generator heeds."""
    with mock.patch.object(error_model, "EFFECTS", {**error_model.EFFECTS, **changes}):
        yield


async def find_amendment() -> dict[str, Any]:
    """Learn from runs, propose, try each proposal in turn, and adopt the first that is proven."""
    asked, started = prompts(LEARN + HELD, 1), time.perf_counter()
    tried: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as home, heeding(HEEDED):
        async with Gems(Settings(home=Path(home))) as gems:
            evolution = Evolution(gems)
            learnt = [
                await gems.run(prompt, seed=seed, max_rounds=6, repair="never")
                for seed, prompt in enumerate(asked[:LEARN])
            ]
            request = TrialRequest(prompts=asked[LEARN:], keep=plain_prompts(KEEP), budget=BUDGET, rounds=1)
            proposed = (await evolution.propose()).patches
            for item in proposed:
                evidence = await evolution.try_patch(item.id, request)
                tried.append(_row(item.patch, evidence))
                if evidence.decision == "proven":
                    await evolution.adopt(item.id)
                    break
            after = await gems.run(asked[0], seed=1, max_rounds=1, memory=False)
    return {
        "learnt_from": {"runs": len(learnt), "images": sum(len(result.rounds) for result in learnt)},
        "proposed": len(proposed),
        "budget": BUDGET,
        "tried": tried,
        "in_force": after.options.get("patches", []),
        "seconds": round(time.perf_counter() - started),
    }


async def try_by_hand(patches: list[Patch], request: TrialRequest, changes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Try given patches on the same prompts, each with seeds of its own."""
    with tempfile.TemporaryDirectory() as home, heeding(changes):
        async with Gems(Settings(home=Path(home))) as gems:
            evolution, rows = Evolution(gems), []
            for number, patch in enumerate(patches):
                await evolution.add(patch)
                fields = {name: getattr(request, name) for name in ("prompts", "keep", "budget", "rounds")}
                rows.append(_row(patch, await evolution.try_patch(patch.id, TrialRequest(**fields, seed=number))))
    return rows


def _row(patch: Patch, found: Evidence) -> dict[str, Any]:
    counts = {name: getattr(found, name).model_dump() for name in ("held", "keep")}
    shown = {"kind": patch.kind, "target": patch.target, "after": patch.after, "decision": found.decision}
    return shown | counts | {"p": found.p, "level": found.level, "images": found.images}


def simulate(
    chance: random.Random, plan: Plan, held: tuple[float, float], keep: tuple[float, float]
) -> tuple[bool, int]:
    """Return whether a patch is adopted, and how many pairs were needed.

    `held` and `keep` are the chances that a pair of these sets is better and worse. A pair whose images agree meets
    everything in one of two cases of the held-out set, and always in the preservation set.
    """
    pairs: dict[str, list[tuple[bool | None, bool | None]]] = {"held": [], "keep": []}
    order = sorted(
        (number / total, part) for part, total in (("held", plan.held), ("keep", plan.keep)) for number in range(total)
    )

    def pair(better: float, worse: float, met: float) -> tuple[bool, bool]:
        lot = chance.random()
        if lot < better + worse:
            return lot >= better, lot < better
        same = chance.random() < met
        return same, same

    for begin in range(0, len(order), _BATCH):
        for _, part in order[begin : begin + _BATCH]:
            pairs[part].append(pair(*held, 0.5) if part == "held" else pair(*keep, 1.0))
        standing, _ = plan.standing(count_pairs(pairs["held"]), count_pairs(pairs["keep"]))
        if standing != "open":
            return standing == "proven", sum(map(len, pairs.values()))
    return False, len(order)


SITUATIONS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "nothing, 20 % of pairs differ": ((0.10, 0.10), (0.05, 0.05)),
    "nothing, 50 % of pairs differ": ((0.25, 0.25), (0.05, 0.05)),
    "nothing, the rest never differs": ((0.25, 0.25), (0.0, 0.0)),
    "harms both sets": ((0.05, 0.25), (0.02, 0.20)),
    "helps one set, harms the other": ((0.40, 0.05), (0.02, 0.30)),
    "helps": ((0.35, 0.05), (0.05, 0.05)),
    "helps much": ((0.50, 0.02), (0.02, 0.02)),
}
"""What a patch does -> chances that a pair is better and worse, on held-out prompts and on those to keep."""


def simulate_all(tries: int, families: int) -> list[dict[str, Any]]:
    """Share of adopted patches, once each on prompts of its own and once all on the same ones."""
    rows = []
    for name, (held, keep) in SITUATIONS.items():
        for shared in (False, True):
            chance, adopted, pairs = random.Random(f"{name} {shared}"), list[int](), 0
            for _ in range(families):
                count = 0
                for number in range(1, tries + 1):
                    plan = Plan(held=HELD, keep=KEEP, level=share_of_alpha(number if shared else 1))
                    is_adopted, needed = simulate(chance, plan, held, keep)
                    count, pairs = count + is_adopted, pairs + needed
                adopted.append(count)
            share = sum(adopted) / (families * tries)
            any_of = sum(count > 0 for count in adopted) / families
            row = {"does": name, "same_prompts": shared, "tries": tries, "families": families, "adopted": share}
            rows.append(
                row | {"most_adopted": max(adopted) / tries, "any": any_of, "pairs": pairs / (families * tries)}
            )
    return rows


def noise(number: int) -> list[Patch]:
    """Amendments that change the prompts and, in a world that heeds neither wording, nothing else."""
    wordings = ("important", "repeat", "exactly")
    return [
        Patch(
            kind="skill",
            target="counting-and-binding",
            after=f'For counts, the wording "{wordings[n % 3]}" worked ({n + 2} of {n + 2} times).',
        )
        for n in range(number)
    ]


async def measure(tries: int, families: int, real: int) -> dict[str, Any]:
    """All three proofs."""
    held, keep = prompts(HELD, 2), plain_prompts(KEEP)
    request = TrialRequest(prompts=held, keep=keep, budget=BUDGET, rounds=1)
    deaf = {"miscount": dict.fromkeys(("repeat", "important", "exactly"), 1.0)}
    # By default `exactly` is heeded, and the skill says so.
    harmful = Patch(
        kind="skill", target="counting-and-binding", after='For counts, the wording "repeat" worked (9 of 9 times).'
    )
    return {
        "amendment": await find_amendment(),
        "harmful": await try_by_hand([harmful], request, {}),
        "noise": await try_by_hand(noise(real), request, deaf) if real else [],
        "simulated": simulate_all(tries, families),
    }


def pages(tables: dict[str, Any]) -> tuple[str, str]:
    """Return the tables of real and of simulated trials for docs/results.md."""
    real = [
        "| patch of | what it adds | result | held-out | to keep | images |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in (*tables["amendment"]["tried"], *tables["harmful"], *tables["noise"]):
        held, kept = ("{better} better, {worse} worse of {pairs}".format(**row[part]) for part in ("held", "keep"))
        about = f"| {row['kind']} `{row['target']}` | {row['after']} "
        real.append(f"{about}| {row['decision']} | {held} | {kept} | {row['images']} |")
    drawn = ["| a patch that | own prompts | same prompts |", "| --- | --- | --- |"]
    rows = {(row["does"], row["same_prompts"]): row for row in tables["simulated"]}
    for name in SITUATIONS:
        shares = (
            f"{rows[name, shared]['adopted']:.2%} (at most {rows[name, shared]['most_adopted']:.1%})"
            for shared in (False, True)
        )
        drawn.append(f"| {name} | {' | '.join(shares)} |")
    return "\n".join(real), "\n".join(drawn)


def show(tables: dict[str, Any]) -> None:
    """Print tables."""
    found = tables["amendment"]
    print(f"learnt from {found['learnt_from']}, {found['proposed']} proposals, in force: {found['in_force']}")
    for name in ("amendment", "harmful", "noise"):
        for row in found["tried"] if name == "amendment" else tables[name]:
            held, kept = ("+{better} -{worse} of {pairs}".format(**row[part]) for part in ("held", "keep"))
            told = f"{name:10}{row['decision']:9}{held:16}{kept:16}{row['images']:>4} images"
            print(f"{told}  {row['target']}: {row['after']}")
    for row in tables["simulated"]:
        where = "same prompts" if row["same_prompts"] else "own prompts"
        told = f"{row['does']:34}{where:14}{row['adopted']:>8.2%} adopted, at most {row['most_adopted']:.1%}"
        print(f"{told}, {row['pairs']:.0f} pairs")


def main() -> None:
    """Measure, print, and write the figures where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, help="also write the results there, as JSON")
    parser.add_argument("--tries", type=int, default=200, help="simulated trials of a family")
    parser.add_argument("--families", type=int, default=20, help="families of simulated trials")
    parser.add_argument("--noise", type=int, default=3, help="real trials of proposals that do nothing")
    options = parser.parse_args()
    tables = asyncio.run(measure(options.tries, options.families, options.noise))
    show(tables)
    if options.out:
        write(options.out, "evolution", tables)


if __name__ == "__main__":
    main()
