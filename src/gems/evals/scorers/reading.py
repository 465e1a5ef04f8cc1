"""What is written in an image, as the judge reads it."""

from __future__ import annotations

import re

from gems.evals.judge import EvalJudge, JudgeQuestion

_MOST = 1024
_NOTHING = re.compile(
    r"\W*no text(?: (?:is |was |can be )?(?:recogni[sz]ed|found|visible|seen))?\W*", re.IGNORECASE
)
_ASKED = (
    "Write down all text that can be read in the image, exactly as it stands there, and nothing else. Write "
    "no text twice that stands there once. If there is none, answer: No text."
)


async def text_in(judge: EvalJudge, image: bytes) -> str:
    """All text in an image; empty where there is none.

    Raises:
        UnreadableReplyError: the judge's answer is empty.
        ProviderError: it cannot be reached.
    """
    reply = await judge.ask(JudgeQuestion(text=_ASKED, pictures=[image], max_tokens=_MOST))
    return "" if _NOTHING.fullmatch(reply.text) else reply.text
