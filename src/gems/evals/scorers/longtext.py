"""LongText-Bench: which of the wanted words the judge reads in the image."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from gems.evals.formulas.longtext import compared
from gems.evals.formulas.texts import Match
from gems.evals.judge import EvalJudge
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers.reading import text_in
from gems.evals.scorers.scoring import Scored, each_sample

METRIC = "recall"


async def score(prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge) -> list[Score]:
    """The share of wanted units that are read in each image, in [0, 1]; the counts are kept as facts."""

    async def look(image: bytes) -> Scored:
        read = await text_in(judge, image)
        match = await asyncio.to_thread(compared, read, prompt.facts["text"], prompt.language)
        return scored(match, read)

    return await each_sample(prompt, images, METRIC, look)


def scored(match: Match, read: str) -> Scored:
    """What a comparison comes to."""
    facts = {"matched": float(match.matched), "wanted": float(match.wanted), "found": float(match.found)}
    return Scored(
        value=match.matched / match.wanted if match.wanted else None, facts={**facts}, explanation=read
    )


def match_of(score: Score) -> Match:
    """The counts of a score.

    Raises:
        ValueError: it has none.
    """
    found = [score.facts.get(name) for name in ("matched", "wanted", "found")]
    if not all(isinstance(value, float) for value in found):
        raise ValueError(f"{score.key} has no counts of words.")
    return Match(*(int(value) for value in found if isinstance(value, float)))
