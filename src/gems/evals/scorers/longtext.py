"""LongText-Bench: the share of expected words that the judge reads in the image."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from gems.evals.benchmarks.metrics import TextMatch
from gems.evals.formulas.longtext import compare_words
from gems.evals.judge import EvalJudge
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers.reading import read_image_text
from gems.evals.scorers.scoring import ImageScore, score_samples

LONGTEXT_METRIC = "recall"


async def score_longtext(
    prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge
) -> list[Score]:
    """Return the share of expected units read in each image, in [0, 1]; counts are kept as facts."""

    async def score_image(image: bytes) -> ImageScore:
        read = await read_image_text(judge, image)
        match = await asyncio.to_thread(compare_words, read, prompt.facts["text"], prompt.language)
        return score_match(match, read)

    return await score_samples(prompt, images, LONGTEXT_METRIC, score_image)


def score_match(match: TextMatch, read: str) -> ImageScore:
    """Return the score of a comparison."""
    facts = {"matched": float(match.matched), "wanted": float(match.wanted), "found": float(match.found)}
    return ImageScore(
        value=match.matched / match.wanted if match.wanted else None, facts={**facts}, explanation=read
    )


def get_match(score: Score) -> TextMatch:
    """Return the counts of a score; raises `ValueError` if it has none."""
    found = [score.facts.get(name) for name in ("matched", "wanted", "found")]
    if not all(isinstance(value, float) for value in found):
        raise ValueError(f"{score.key} has no counts of words.")
    return TextMatch(*(int(value) for value in found if isinstance(value, float)))
