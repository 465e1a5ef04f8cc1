"""The judge protocol: a model that answers scorers' questions about images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

OFFICIAL = "official"
"""The judge name of figures from official scorers."""
_INHOUSE = "-inhouse"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeQuestion:
    """One question about images.

    Attributes:
        text: The question.
        pictures: PNG bytes, in order.
        system: System prompt; empty for none.
        temperature: None for the default of the endpoint.
        max_tokens: None for the default of the endpoint.
        top_logprobs: Number of likely first tokens to return with probabilities; 0 for none.
        attempt: Distinguishes deliberate repetitions of a question, from 0.
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
    """The reply of a judge.

    Attributes:
        text: The answer.
        first_token: Probability in [0, 1] of likely first tokens; empty if the endpoint does not return any.
    """

    text: str
    first_token: dict[str, float]


def inhouse_name(name: str) -> str:
    """Return the judge name for in-house scores, which tells them from official ones."""
    return name if name.endswith(_INHOUSE) else f"{name}{_INHOUSE}"


class EvalJudge(Protocol):
    """A model that sees images and answers questions."""

    name: str
    """Part of every score, with `-inhouse`."""
    samples: int
    """Answers per probability if the endpoint returns none; 1 gives 0 or 1."""

    async def ask(self, question: JudgeQuestion) -> JudgeReply:
        """Ask once, including retries.

        Raises:
            ProviderError: no answer was received.
        """
        ...
