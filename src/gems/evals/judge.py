"""Who answers scorers' questions about images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

OFFICIAL = "official"
"""The judge of numbers that an official scorer made."""
_INHOUSE = "-inhouse"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeQuestion:
    """One question about pictures.

    Attributes:
        text: What is asked.
        pictures: PNG bytes, in order.
        system: Instructions above it; empty for none.
        temperature: None for the endpoint's own.
        max_tokens: None for the endpoint's own.
        top_logprobs: How many likely first tokens to tell with their probabilities; 0 for none.
        attempt: Tells apart questions that are asked again on purpose, from 0.
    """

    text: str
    pictures: Sequence[bytes]
    system: str = ""
    temperature: float | None = 0.0
    max_tokens: int | None = None
    top_logprobs: int = 0
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeReply:
    """What came back.

    Attributes:
        text: The answer.
        first_token: Probability in [0, 1] of likely first tokens; empty where the endpoint tells none.
    """

    text: str
    first_token: dict[str, float]


def inhouse_name(name: str) -> str:
    """What a judge's numbers are called, so that nobody takes them for those of an official scorer."""
    return name if name.endswith(_INHOUSE) else f"{name}{_INHOUSE}"


class EvalJudge(Protocol):
    """Any model that looks at images and answers."""

    name: str
    """Goes into every number it made, with `-inhouse`."""
    samples: int
    """Answers that stand for a probability where the endpoint tells none; 1 makes it 0 or 1."""

    async def ask(self, question: JudgeQuestion) -> JudgeReply:
        """Ask once; retries of what is worth retrying happen within.

        Raises:
            ProviderError: no answer came.
        """
        ...
