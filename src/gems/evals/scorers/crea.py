"""CREA: six ratings of an image's creativity."""

from __future__ import annotations

from collections.abc import Mapping

from gems.evals.formulas.crea import CRITERIA, MAX_RATING, MIN_RATING
from gems.evals.judge import EvalJudge, JudgeQuestion
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers.rating import parse_ratings
from gems.evals.scorers.scoring import ImageScore, score_samples

CREA_METRIC = "crea"
_CREA_SYSTEM = """\
You are a hard critic of creative work. Look at the thing that the prompt names and at \
nothing else: background and staging earn nothing. Most images deserve 1 or 2 on most scales, a 5 is \
rare, and where you doubt the lower number is right.

Rate six things from 1 to 5:
1. originality: 1 is what everybody would have drawn, 5 is an idea that was not there before.
2. expressiveness: 1 leaves one cold, 5 has a mood or meaning that cannot be missed.
3. aesthetic: 1 is ugly or careless, 5 is composed and coloured with a sure hand.
4. technical: 1 is broken or blurred, 5 has no flaw in form, material or detail.
5. unexpected: 1 brings together nothing that does not belong together, 5 joins distant things into one.
6. interpretability: 1 cannot be recognised as the thing, or says nothing, 5 is the thing at once and \
gives one to think.

Reply with a JSON array of these six numbers in this order and nothing else, for example [2, 1, 3, 3, 1, \
2]."""


async def score_crea(prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge) -> list[Score]:
    """Return the sum of six ratings of each image, in [6, 30]; they are kept as facts."""

    async def score_image(image: bytes) -> ImageScore:
        question = JudgeQuestion(
            text=f"Target prompt: {prompt.text}", pictures=[image], system=_CREA_SYSTEM, temperature=None
        )
        reply = await judge.ask(question)
        found = parse_ratings(reply.text, len(CRITERIA), MIN_RATING, MAX_RATING)
        return ImageScore(
            value=sum(found), facts=dict(zip(CRITERIA, found, strict=True)), explanation=reply.text
        )

    return await score_samples(prompt, images, CREA_METRIC, score_image)


def get_ratings(score: Score) -> list[float]:
    """Return the six ratings of a score; raises `ValueError` if some are missing."""
    found = [score.facts.get(name) for name in CRITERIA]
    numbers = [value for value in found if isinstance(value, float)]
    if len(numbers) != len(CRITERIA):
        raise ValueError(f"{score.key} does not have six ratings.")
    return numbers
