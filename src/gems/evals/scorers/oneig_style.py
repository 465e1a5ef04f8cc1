"""In-house stand-in for OneIG style: how well the image has the requested style."""

from __future__ import annotations

from collections.abc import Mapping

from gems.evals.judge import EvalJudge, JudgeQuestion
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers.rating import parse_ratings
from gems.evals.scorers.scoring import ImageScore, score_samples

STYLE = "style"
_STYLE_PROMPT = """\
How well does the image keep to the style named {style!r}? Judge its lines, colours, \
materials and light, not what it shows.

100 means that it could stand as an example of this style, 50 that some of its marks are there, 0 that it \
is of another style. Reply with a JSON array of one number from 0 to 100, for example [40]."""


async def score_style(prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge) -> list[Score]:
    """Rate each image, in [0, 1]; not comparable with the official style embeddings."""

    async def score_image(image: bytes) -> ImageScore:
        style = str(prompt.facts["style"]).replace("_", " ")
        reply = await judge.ask(JudgeQuestion(text=_STYLE_PROMPT.format(style=style), pictures=[image]))
        (rating,) = parse_ratings(reply.text, 1, 0, 100)
        return ImageScore(value=rating / 100, explanation=reply.text)

    return await score_samples(prompt, images, STYLE, score_image)
