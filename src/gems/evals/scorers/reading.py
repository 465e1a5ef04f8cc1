"""What is written in an image, as the judge reads it."""

from __future__ import annotations

import re

from gems.evals.judge import EvalJudge, JudgeQuestion

_MAX_READ_TOKENS = 1024
_NO_TEXT = re.compile(
    r"\W*no text(?: (?:is |was |can be )?(?:recogni[sz]ed|found|visible|seen))?\W*", re.IGNORECASE
)
_READ_TEXT_PROMPT = (
    "Write down all text that can be read in the image, exactly as it stands there, and nothing else. Write "
    "no text twice that stands there once. If there is none, answer: No text."
)


async def read_image_text(judge: EvalJudge, image: bytes) -> str:
    """All text in an image; empty where there is none.

    Raises:
        UnreadableReplyError: the judge's answer is empty.
        ProviderError: it cannot be reached.
    """
    reply = await judge.ask(
        JudgeQuestion(text=_READ_TEXT_PROMPT, pictures=[image], max_tokens=_MAX_READ_TOKENS)
    )
    return "" if _NO_TEXT.fullmatch(reply.text) else reply.text
