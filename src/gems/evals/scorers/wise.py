"""WISE: three ratings of each image, given the explanation of the prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping

from gems.errors import UnreadableReplyError
from gems.evals.formulas.wise import wiscore
from gems.evals.judge import EvalJudge, JudgeQuestion
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers.scoring import ImageScore, score_samples

WISE_METRIC = "wiscore"
RATINGS = ("consistency", "realism", "aesthetic")
_RATING_SYSTEM = "You rate drawn images, strictly and by the given scales alone."
_RATING_PROMPT = """\
Rate the image on three scales of 0, 1 and 2. Give 2 only where nothing is left to wish for; \
where you doubt, give the lower one.

Consistency, with the prompt as the explanation makes it clear:
0: an essential part is missing or contradicted. 1: a part is shown, but not all or not exactly. 2: \
everything is shown, exactly and beyond doubt.
Realism, of what is shown:
0: it could not be so, and is plainly made up. 1: believable, with visible faults. 2: it could be a \
photograph; matter, light and space are right.
Aesthetic quality:
0: badly composed and unpleasant. 1: pleasant, and ordinary. 2: composed, coloured and made as a master \
would.

Prompt: {prompt}
Explanation: {explanation}

Reply with these three lines only, each with its number:
Consistency: N
Realism: N
Aesthetic: N"""
_RATING_LINE = re.compile(
    r"\b(consistency|realism|aesthetic)\w*(?: quality)?[\s*]*:[\s*]*([0-2])\b", re.IGNORECASE
)


async def score_wise(prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge) -> list[Score]:
    """Return the WiScore of each image, in [0, 1]; its three ratings are kept as facts."""
    asked = _RATING_PROMPT.format(prompt=prompt.text, explanation=prompt.facts["Explanation"])

    async def score_image(image: bytes) -> ImageScore:
        reply = await judge.ask(JudgeQuestion(text=asked, pictures=[image], system=_RATING_SYSTEM))
        rated = _parse_wise_ratings(reply.text)
        return ImageScore(
            value=wiscore(*(rated[name] for name in RATINGS)), facts={**rated}, explanation=reply.text
        )

    return await score_samples(prompt, images, WISE_METRIC, score_image)


def _parse_wise_ratings(reply: str) -> dict[str, float]:
    """Return the last rating of each name: thoughts come before them."""
    found = {name.lower(): float(value) for name, value in _RATING_LINE.findall(reply)}
    if set(found) != set(RATINGS):
        raise UnreadableReplyError(f"The reply does not contain three ratings from 0 to 2: {reply[:120]!r}.")
    return found
