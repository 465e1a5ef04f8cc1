"""SpatialGenEval: ten questions in one call, majority of five replies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gems.errors import UnreadableReplyError
from gems.evals.formulas.spatial import MAX_REPLIES, QUESTION_COUNT, REPLY_COUNT, vote
from gems.evals.judge import EvalJudge, JudgeQuestion
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers.rating import collect_replies
from gems.evals.scorers.scoring import ImageScore, score_samples

SPATIAL_METRIC = "accuracy"
CORRECT_FACT = "right"
"""Fact of a score: 1 for each correctly answered question, else 0."""
_QUESTIONS_SYSTEM = "You look at images closely and answer questions about them."
_QUESTIONS_PROMPT = """\
Answer these {count} questions from the image alone, not from what you know or expect. Where \
the image does not tell, choose E.

{questions}

Reply with {count} lines, one for each question and in their order, and nothing else. Begin each line \
with the letter of the option, then a colon and your reason, for example:
B: The lamp stands to the right of the chair."""
_LETTER = re.compile(r"[\s*(]*([A-E])(?![A-Za-z])")


async def score_spatial(
    prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge
) -> list[Score]:
    """Return the share of correct answers for each image, in [0, 1]."""
    answers: Sequence[str] = prompt.facts["answers"]
    asked = _QUESTIONS_PROMPT.format(
        count=QUESTION_COUNT, questions="\n".join(map(str.strip, prompt.facts["questions"]))
    )

    async def score_image(image: bytes) -> ImageScore:
        question = JudgeQuestion(text=asked, pictures=[image], system=_QUESTIONS_SYSTEM, temperature=1.0)
        replies = await collect_replies(judge, question, _parse_letters, REPLY_COUNT, MAX_REPLIES)
        right = vote(replies, answers)
        return ImageScore(
            value=sum(right) / len(right),
            facts={CORRECT_FACT: [float(each) for each in right]},
            explanation=" ".join("".join(reply) for reply in replies),
        )

    return await score_samples(prompt, images, SPATIAL_METRIC, score_image)


def _parse_letters(reply: str) -> list[str]:
    lines = [line for line in reply.splitlines() if line.strip()]
    found = [match.group(1) for line in lines if (match := _LETTER.match(line))]
    if len(lines) != QUESTION_COUNT or len(found) != QUESTION_COUNT:
        raise UnreadableReplyError(f"The reply does not contain {QUESTION_COUNT} answers: {reply[:120]!r}.")
    return found
