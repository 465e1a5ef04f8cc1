"""OneIG text: the text in the image compared with the expected text."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from gems.evals.benchmarks.metrics import TextMatch
from gems.evals.benchmarks.oneig_scoring import TextComparison, compare_text, text_score
from gems.evals.judge import EvalJudge
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers.reading import read_image_text
from gems.evals.scorers.scoring import ImageScore, score_samples

TEXT = "text"
_TEXT_FACTS = ("edits", "matched", "wanted", "found")


async def score_text(prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge) -> list[Score]:
    """Return the text formula for each image, in [0, 1]; the benchmark pools the counts in the facts."""

    async def score_image(image: bytes) -> ImageScore:
        read = await read_image_text(judge, image)
        found = await asyncio.to_thread(compare_text, read, prompt.facts["text_content"])
        counts = (found.edits, found.match.matched, found.match.wanted, found.match.found)
        return ImageScore(
            value=text_score([found], prompt.language),
            facts={name: float(count) for name, count in zip(_TEXT_FACTS, counts, strict=True)},
            explanation=read,
        )

    return await score_samples(prompt, images, TEXT, score_image)


def get_comparison(score: Score) -> TextComparison:
    """Return the comparison behind a score; raises `ValueError` if it has none."""
    found = [score.facts.get(name) for name in _TEXT_FACTS]
    counts = [int(value) for value in found if isinstance(value, float)]
    if len(counts) != len(_TEXT_FACTS):
        raise ValueError(f"{score.key} has no counts of characters.")
    return TextComparison(counts[0], TextMatch(*counts[1:]))
