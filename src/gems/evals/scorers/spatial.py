"""SpatialGenEval: ten questions in one call, and five replies that vote."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gems.errors import UnreadableReplyError
from gems.evals.formulas.spatial import QUESTIONS, REPLIES, TRIES, voted
from gems.evals.judge import EvalJudge, JudgeQuestion
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers.rating import readable_replies
from gems.evals.scorers.scoring import Scored, each_sample

METRIC = "accuracy"
RIGHT = "right"
"""Fact of a score: 1 for each question that was answered rightly, else 0."""
_SYSTEM = "You look at images closely and answer questions about them."
_ASKED = """Answer these {count} questions from the image alone, not from what you know or expect. Where \
the image does not tell, choose E.

{questions}

Reply with {count} lines, one for each question and in their order, and nothing else. Begin each line \
with the letter of the option, then a colon and your reason, for example:
B: The lamp stands to the right of the chair."""
_LETTER = re.compile(r"[\s*(]*([A-E])(?![A-Za-z])")


async def score(prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge) -> list[Score]:
    """The share of questions answered rightly about each image, in [0, 1]."""
    answers: Sequence[str] = prompt.facts["answers"]
    asked = _ASKED.format(count=QUESTIONS, questions="\n".join(map(str.strip, prompt.facts["questions"])))

    async def look(image: bytes) -> Scored:
        question = JudgeQuestion(text=asked, pictures=[image], system=_SYSTEM, temperature=1.0)
        replies = await readable_replies(judge, question, _letters, REPLIES, TRIES)
        right = voted(replies, answers)
        return Scored(
            value=sum(right) / len(right),
            facts={RIGHT: [float(each) for each in right]},
            explanation=" ".join("".join(reply) for reply in replies),
        )

    return await each_sample(prompt, images, METRIC, look)


def _letters(reply: str) -> list[str]:
    lines = [line for line in reply.splitlines() if line.strip()]
    found = [match.group(1) for line in lines if (match := _LETTER.match(line))]
    if len(lines) != QUESTIONS or len(found) != QUESTIONS:
        raise UnreadableReplyError(f"The judge's reply is not {QUESTIONS} answers: {reply[:120]!r}.")
    return found
