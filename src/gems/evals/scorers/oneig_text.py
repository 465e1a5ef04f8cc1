"""OneIG's text: what is written in the image against what was to be written."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from gems.evals.benchmarks.oneig_scoring import TextComparison, compared, text
from gems.evals.formulas.texts import Match
from gems.evals.judge import EvalJudge
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers.reading import text_in
from gems.evals.scorers.scoring import Scored, each_sample

METRIC = "text"
_FACTS = ("edits", "matched", "wanted", "found")


async def score(prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge) -> list[Score]:
    """The text formula of each image by itself, in [0, 1]; the benchmark pools what is kept as facts."""

    async def look(image: bytes) -> Scored:
        read = await text_in(judge, image)
        found = await asyncio.to_thread(compared, read, prompt.facts["text_content"])
        counts = (found.edits, found.match.matched, found.match.wanted, found.match.found)
        return Scored(
            value=text([found], prompt.language),
            facts={name: float(count) for name, count in zip(_FACTS, counts, strict=True)},
            explanation=read,
        )

    return await each_sample(prompt, images, METRIC, look)


def comparison_of(score: Score) -> TextComparison:
    """What a score was made from.

    Raises:
        ValueError: it has no such facts.
    """
    found = [score.facts.get(name) for name in _FACTS]
    counts = [int(value) for value in found if isinstance(value, float)]
    if len(counts) != len(_FACTS):
        raise ValueError(f"{score.key} has no counts of characters.")
    return TextComparison(counts[0], Match(*counts[1:]))
