"""In-house stand-in for ArtiMuse: eight aesthetic ratings, three times."""

from __future__ import annotations

from collections.abc import Mapping

from gems.evals.formulas.artimuse import ATTRIBUTE_COUNT, REPLY_COUNT, artimuse_score
from gems.evals.judge import EvalJudge, JudgeQuestion
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers.rating import collect_replies, parse_ratings
from gems.evals.scorers.scoring import ImageScore, score_samples

ARTIMUSE_METRIC = "artimuse"
_MAX_REPLIES = 9
_ATTRIBUTES_PROMPT = """\
Rate this image as a work of art, each of eight things from 0 to 100. 0 is worthless, 50 \
ordinary, 90 and above only for masters.

1. composition and design
2. visual elements and structure
3. technical execution
4. originality and creativity
5. theme and what it communicates
6. emotion and how it touches the viewer
7. the whole as one picture
8. overall impression

Reply with a JSON array of these eight numbers in this order and nothing else."""


async def score_artimuse(
    prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge
) -> list[Score]:
    """Rate each image, in [0, 100]; not comparable with the official model trained for this."""

    async def score_image(image: bytes) -> ImageScore:
        question = JudgeQuestion(text=_ATTRIBUTES_PROMPT, pictures=[image], temperature=1.0)
        found = await collect_replies(
            judge,
            question,
            lambda reply: parse_ratings(reply, ATTRIBUTE_COUNT, 0, 100),
            REPLY_COUNT,
            _MAX_REPLIES,
        )
        return ImageScore(
            value=artimuse_score(found),
            facts={"replies": [sum(reply) / len(reply) for reply in found]},
            explanation=", ".join(f"{sum(reply) / len(reply):.1f}" for reply in found),
        )

    return await score_samples(prompt, images, ARTIMUSE_METRIC, score_image)
