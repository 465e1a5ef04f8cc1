"""In-house stand-in for OneIG reasoning: how much of the answer the judge sees in the image."""

from __future__ import annotations

from collections.abc import Mapping

from gems.evals.judge import EvalJudge, JudgeQuestion
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers.rating import parse_ratings
from gems.evals.scorers.scoring import ImageScore, score_samples

REASONING = "reasoning"
_REASONING_PROMPT = """\
An image was drawn to show the answer to a task. Say how much of the answer it shows rightly.

Answer: {answer}

100 means that everything the answer says can be seen and nothing contradicts it, 50 that about half can \
be seen, 0 that the image has nothing to do with it. Looks do not count. Reply with a JSON array of one \
number from 0 to 100, for example [40]."""


async def score_reasoning(
    prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge
) -> list[Score]:
    """Rate each image, in [0, 1]; not comparable with the official cosine of embeddings."""

    async def score_image(image: bytes) -> ImageScore:
        question = JudgeQuestion(
            text=_REASONING_PROMPT.format(answer=prompt.facts["gt_answer"]), pictures=[image]
        )
        reply = await judge.ask(question)
        (rating,) = parse_ratings(reply.text, 1, 0, 100)
        return ImageScore(value=rating / 100, explanation=reply.text)

    return await score_samples(prompt, images, REASONING, score_image)
