"""Questions for judges that several scorers share, and parsers for the answers.

Unreadable answers raise `UnreadableReplyError`, so that they never count as a no.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from gems.errors import UnreadableReplyError
from gems.evals.benchmarks.metrics import (
    NUMBERS,
    acceptance_rate,
    number_spellings,
    spellings,
    token_probability,
)
from gems.evals.judge import EvalJudge, JudgeQuestion
from gems.evals.records import gather_or_cancel
from gems.models.chat.parsing import read_answer

ProbabilityMethod = Literal["logprobs", "frequency", "hard"]
_TOP_LOGPROBS = 20
_MIN_PROBABILITY = 0.01
"""If all answers together are less likely than this, the reply is unreadable."""
_NUMBER_PATTERN = re.compile(r"\d+|" + "|".join(rf"\b{word}\b" for word in NUMBERS), re.IGNORECASE)
_NUMBER_TOKENS = frozenset().union(*(number_spellings(word) for word in NUMBERS)) | {" "}
_YES_NO_TOKENS = spellings("yes") | spellings("no")


@dataclass(frozen=True, slots=True)
class Probability:
    """The probability in [0, 1] of an answer: of its first token, or the share of one or more answers."""

    value: float
    how: ProbabilityMethod


async def ask_yes_no(judge: EvalJudge, question: str, image: bytes) -> bool:
    """Ask a yes-or-no question about an image; raises `UnreadableReplyError` or `ProviderError`."""
    asked = JudgeQuestion(text=f"{question} Answer with yes or no only.", pictures=[image])
    reply = await judge.ask(asked)
    return _parse_yes_no(reply.text)


async def ask_number(judge: EvalJudge, question: str, image: bytes) -> int:
    """Ask for a number in an image; raises `UnreadableReplyError` for none or several."""
    text = f"{question} Answer with one whole number only, 0 if there is none."
    reply = await judge.ask(JudgeQuestion(text=text, pictures=[image]))
    return _parse_number(reply.text)


async def ask_yes_probability(judge: EvalJudge, text: str, image: bytes) -> Probability:
    """Return the probability that the judge answers yes; raises like `ask_yes_no`."""
    return await _ask_probability(
        judge, text, image, _ExpectedAnswer(spellings("yes"), _YES_NO_TOKENS, _parse_yes_no)
    )


async def ask_number_probability(judge: EvalJudge, text: str, image: bytes, word: str) -> Probability:
    """Return the probability that the judge answers with a number word such as `three`.

    Raises `UnreadableReplyError` or `ProviderError`.
    """
    number = NUMBERS.index(word.lower())
    expected = _ExpectedAnswer(
        number_spellings(word), _NUMBER_TOKENS, lambda reply: _parse_number(reply) == number
    )
    return await _ask_probability(judge, text, image, expected)


@dataclass(frozen=True, slots=True)
class _ExpectedAnswer:
    """The expected answer.

    Attributes:
        accepted: First tokens that give it.
        answers: First tokens of any valid answer.
        read: Whether a complete reply gives it.
    """

    accepted: frozenset[str]
    answers: frozenset[str]
    read: Callable[[str], bool]


async def _ask_probability(
    judge: EvalJudge, text: str, image: bytes, expected: _ExpectedAnswer
) -> Probability:
    reply = await judge.ask(
        JudgeQuestion(text=text, pictures=[image], max_tokens=1, top_logprobs=_TOP_LOGPROBS)
    )
    if reply.first_token:
        if token_probability(reply.first_token, expected.answers) < _MIN_PROBABILITY:
            raise _unreadable_reply(judge, reply.text or " ".join(reply.first_token))
        return Probability(token_probability(reply.first_token, expected.accepted), "logprobs")
    if judge.samples <= 1:
        return Probability(acceptance_rate([expected.read(reply.text)]), "hard")
    several = await gather_or_cancel(_ask_again(judge, text, image, n) for n in range(1, judge.samples + 1))
    return Probability(acceptance_rate([expected.read(said) for said in several]), "frequency")


async def _ask_again(judge: EvalJudge, text: str, image: bytes, attempt: int) -> str:
    question = JudgeQuestion(text=text, pictures=[image], temperature=1.0, attempt=attempt)
    return (await judge.ask(question)).text


def find_json_arrays(text: str) -> Iterator[list[Any]]:
    """Yield the JSON arrays in a reply, last first: models write their thoughts before an answer."""
    decoder = json.JSONDecoder()
    position = text.rfind("[")
    while position >= 0:
        try:
            found, _ = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, list):
            yield found
        position = text.rfind("[", 0, position)


def _parse_yes_no(reply: str) -> bool:
    answer, _ = read_answer(reply)
    if answer == "unknown":
        raise UnreadableReplyError(f"The judge's reply is neither yes nor no: {reply[:120]!r}.")
    return answer == "yes"


def _parse_number(reply: str) -> int:
    found = {word.lower() for word in _NUMBER_PATTERN.findall(reply)}
    numbers = {NUMBERS.index(word) if word in NUMBERS else int(word) for word in found if len(word) < 10}
    if len(numbers) != 1:
        raise UnreadableReplyError(f"The judge's reply contains no number or several: {reply[:120]!r}.")
    return numbers.pop()


def _unreadable_reply(judge: EvalJudge, said: str) -> UnreadableReplyError:
    return UnreadableReplyError(f"The reply of {judge.name} is not an answer: {said[:120]!r}.")
