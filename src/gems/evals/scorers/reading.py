"""Read the text in an image with the judge."""

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
    """Return all text in an image; empty if there is none.

    Raises `UnreadableReplyError` for an empty reply, `ProviderError` if the judge cannot be reached.
    """
    reply = await judge.ask(
        JudgeQuestion(text=_READ_TEXT_PROMPT, pictures=[image], max_tokens=_MAX_READ_TOKENS)
    )
    return "" if _NO_TEXT.fullmatch(reply.text) else reply.text
