"""Whether lessons fit: `python -m benchmarks.lessons_fit [--embedder NAME=SPEC] [--out FILE]`.

A store holds what runs on twelve subjects taught, six runs each. Each of them is run once more: what it would be
shown of the others, with and without the floor of relevance, is counted by whether it is about the same subject.
Then again where nothing in the store is about the run's subject. Embedders: words alone, a server whose vectors
all lie close to each other, and those that `--embedder` names.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks._results import write
from gems.memory.experience import EXPERIENCES, indexed_text, namespace, no_record
from gems.memory.relevance import Relevance
from gems.memory.retrieval import LessonQuery, recall
from gems.memory.store import ChromaStore, open_store
from tests.support.embedding_server import embedding_server

SUBJECTS: dict[str, tuple[str, ...]] = {
    "hearts and stars": (
        "five small pink hearts below a spotted orange circle on a white background",
        "three red hearts above a blue striped square",
        "two yellow stars left of a grey circle",
        "a green star right of four purple hearts",
        "six cyan squares and a large black circle",
        "three green circles left of a pink square",
    ),
    "golden retrievers": (
        "a golden retriever puppy asleep on a striped rug",
        "a golden retriever catching a red frisbee in a park",
        "two golden retrievers swimming in a lake",
        "a golden retriever puppy with a blue collar",
        "a wet golden retriever shaking off water",
        "an old golden retriever beside three white cats",
    ),
    "signs": (
        'a shop sign that reads "BAKERY" above a green door',
        'a wooden sign with the words "GRAND OPENING"',
        'a neon sign that says "OPEN 24 HOURS" in pink letters',
        'an old street sign that reads "ELM AVENUE"',
        'a hanging sign with the word "TAVERN" in gold letters',
        'a yellow warning sign that says "WET PAINT"',
    ),
    "sports cars": (
        "a red sports car drifting on a racetrack",
        "a black sports car parked in front of a hotel",
        "two sports cars racing side by side at night",
        "a yellow sports car with its doors open",
        "a sports car driving along the coast at sunset",
        "a small blue toy sports car on a table",
    ),
    "ramen": (
        "a bowl of ramen with two halves of a soft-boiled egg",
        "a steaming bowl of ramen beside a pair of chopsticks",
        "three bowls of ramen on a wooden counter",
        "a chef pouring broth into a bowl of ramen",
        "a bowl of ramen with pork, corn and seaweed",
        "a ramen shop at night with five red lanterns",
    ),
    "astronauts": (
        "an astronaut floating above the Earth",
        "an astronaut planting a green flag on the moon",
        "two astronauts repairing a satellite",
        "an astronaut riding a white horse",
        "an astronaut with a cracked visor on Mars",
        "a small astronaut under a huge blue planet",
    ),
    "mountains": (
        "snow-capped mountains reflected in a calm lake at sunrise",
        "a wooden hut below a steep mountain",
        "a winding road up to a mountain pass in autumn",
        "two hikers on a mountain ridge above the clouds",
        "a red tent on a mountain under the stars",
        "a mountain village with six chimneys in winter",
    ),
    "butterflies": (
        "a monarch butterfly on a purple thistle",
        "three blue butterflies around a white rose",
        "a macro photo of a butterfly wing",
        "a butterfly landing on a child's hand",
        "five yellow butterflies above a puddle",
        "a butterfly with striped wings on a green leaf",
    ),
    "ships": (
        "a three-masted sailing ship in a storm",
        "a pirate ship with torn black sails",
        "a sailing ship in a bottle on a shelf",
        "two ships entering a harbour at dawn",
        "a ship with a red hull between icebergs",
        "a container ship under a grey bridge",
    ),
    "armchairs": (
        "a mid-century armchair beside a walnut side table",
        "a green velvet armchair in front of a window",
        "two leather armchairs by a fireplace",
        "an armchair with a striped cushion and a floor lamp",
        "a cat scratching a yellow armchair",
        "a rattan armchair on a balcony",
    ),
    "violinists": (
        "a violinist playing on an empty stage",
        "an old violinist in the subway, a hat with coins in front of him",
        "a young violinist with a red dress",
        "two violinists facing each other",
        "a portrait of a violinist with closed eyes",
        "a violinist on a roof at night",
    ),
    "castles": (
        "a castle on a cliff above the sea",
        "a sand castle with four towers and a blue flag",
        "a ruined castle in the fog",
        "a castle with a red roof beside a river",
        "a knight before the gate of a castle",
        "an ice castle under green northern lights",
    ),
}
RUNS = {f"{subject}/{number}": prompt for subject, found in SUBJECTS.items() for number, prompt in enumerate(found)}
GENERATOR = "model"
MOST_OTHERS = 0.1
"""The largest share of shown lessons that may be about another subject."""


def experience(run: str, prompt: str) -> dict[str, Any]:
    """What a run taught whose image missed something."""
    failed = [f"Is there {' '.join(prompt.split()[:5])}?", f"Does this image show: {prompt}?"]
    return {
        "run": run,
        "round": 1,
        "prompt": prompt,
        "failed": [{"kind": "object", "question": question} for question in failed],
        "passed_after": [],
        "failed_after": [],
        "next_prompt": f"{prompt}, clearly visible",
        "score_after": None,
        # Lessons with the same words would count as duplicates.
        "text": f"Missing in {run}: {prompt}. Name it first.",
        "record": no_record(),
        "text_indexed": indexed_text(prompt, failed[:1]),
    }


async def fill(store: ChromaStore) -> None:
    """Put in what all runs taught."""
    for run, prompt in RUNS.items():
        await store.aput(namespace(EXPERIENCES, GENERATOR), run, experience(run, prompt))


async def shown(store: ChromaStore, run: str, *, about_it: bool) -> list[str]:
    """Return the runs whose lessons are shown to a run again; without those on its subject unless `about_it`."""
    subject = run.partition("/")[0]
    without = {run} if about_it else {name for name in RUNS if name.partition("/")[0] == subject}
    asked = LessonQuery(prompt=RUNS[run], generator=GENERATOR, without=frozenset(without))
    return [lesson["key"] for lesson in await recall(store, asked)]


async def measure(store: ChromaStore) -> dict[str, float]:
    """Count the lessons that runs are shown, by what they are about."""
    lessons = others = runs_with_own = stray = 0
    for run in RUNS:
        subject = run.partition("/")[0]
        found = [name.partition("/")[0] == subject for name in await shown(store, run, about_it=True)]
        lessons, others, runs_with_own = lessons + len(found), others + found.count(False), runs_with_own + any(found)
        stray += len(await shown(store, run, about_it=False))
    return {
        "lessons_per_run": lessons / len(RUNS),
        "about_something_else": others / max(1, lessons),
        "runs_with_a_fitting_lesson": runs_with_own / len(RUNS),
        "lessons_per_run_where_none_fits": stray / len(RUNS),
    }


async def without_floor(_store: Any, queries: Sequence[str]) -> list[Relevance]:
    """Let everything pass."""
    return [Relevance()] * len(queries)


async def measure_embedder(spec: str) -> dict[str, dict[str, float]]:
    """Measure one embedder, with and without the floor."""
    with tempfile.TemporaryDirectory() as home:
        async with open_store("", Path(home) / "experience", spec) as store:
            await fill(store)
            with patch("gems.memory.retrieval.relevances", without_floor):
                before = await measure(store)
            return {"without": before, "with": await measure(store)}


def main() -> int:
    """Measure, print a table, and write the figures where that is asked for; 1 if a bound is not met."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--embedder", action="append", default=[], metavar="NAME=SPEC", help="another embedder")
    parser.add_argument("--out", type=Path, help="also write the results there, as JSON")
    options = parser.parse_args()
    with embedding_server() as (url, _):
        specs = {"lexical": "lexical", "server": f"openai:crowded@{url}"}
        specs |= dict(named.split("=", 1) for named in options.embedder)
        found = {name: asyncio.run(measure_embedder(spec)) for name, spec in specs.items()}
    if options.out:
        write(options.out, "lessons_fit", {"embedders": found})
    names = list(found["lexical"]["with"])
    print(f"{'':24}" + "".join(f"{name:>34}" for name in names))
    for name, ways in found.items():
        for way, figures in ways.items():
            print(f"{name:14} {way:9}" + "".join(f"{figures[figure]:34.2f}" for figure in names))
    return int(any(ways["with"]["about_something_else"] > MOST_OTHERS for ways in found.values()))


if __name__ == "__main__":
    raise SystemExit(main())
