"""Questions, ratings and text shared by scorers."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from gems.errors import RefusedError, UnreadableReplyError
from gems.evals.judge import EvalJudge, JudgeQuestion
from gems.evals.metrics import NUMBERS, Parents, arithmetic_mean, number_spellings, spellings, token_probability
from gems.evals.records import BenchmarkPrompt, Score, gather_or_cancel
from gems.models.chat.answers import read_answer

ProbabilityMethod = Literal["logprobs", "frequency", "hard"]
_TOP_LOGPROBS = 20
_MIN_PROBABILITY = 0.01
"""If all answers together are less likely than this, the reply is unreadable."""
_NUMBER_PATTERN = re.compile(r"\d+|" + "|".join(rf"\b{word}\b" for word in NUMBERS), re.IGNORECASE)
_INEXACT = re.compile(
    r"(?<![\w)])[-\u2212]\d|\d\s*\+|[~\u2248\u00bc-\u00be]"
    r"|\b(?:half|or (?:more|fewer|so)|at (?:least|most)|(?:more|fewer|less) than|about|approximately|around|nearly)\b",
    re.IGNORECASE,
)
_NUMBER_TOKENS = frozenset().union(*(number_spellings(word) for word in NUMBERS)) | {" "}
_YES_NO_TOKENS = spellings("yes") | spellings("no")
T = TypeVar("T")
ANSWERS_FACT = "answers"
"""Fact of a score: 1 for yes and 0 for no, in the order of the questions."""
_MAX_READ_TOKENS = 1024
_NO_TEXT = re.compile(r"\W*no text(?: (?:is |was |can be )?(?:recogni[sz]ed|found|visible|seen))?\W*", re.IGNORECASE)
_READ_TEXT_PROMPT = (
    "Write down all text that can be read in the image, exactly as it stands there, and nothing else. Write "
    "no text twice that stands there once. If there is none, answer: No text."
)


@dataclass(frozen=True, slots=True)
class Probability:
    """The probability in [0, 1] of an answer: of its first token, or the share of one or more answers."""

    value: float
    how: ProbabilityMethod


async def ask_text(judge: EvalJudge, text: str, image: bytes, **options: Any) -> str:
    """Ask a question about one image and return the reply; `options` are those of `JudgeQuestion`."""
    return (await judge.ask(JudgeQuestion(text=text, pictures=[image], **options))).text


async def ask_yes_no(judge: EvalJudge, question: str, image: bytes) -> bool:
    """Ask a yes-or-no question about an image; raises `UnreadableReplyError` or `ProviderError`."""
    return _parse_yes_no(await ask_text(judge, f"{question} Answer with yes or no only.", image))


async def ask_number(judge: EvalJudge, question: str, image: bytes) -> int:
    """Ask for a number in an image; raises `UnreadableReplyError` for none or several."""
    text = f"{question} Answer with one whole number only, 0 if there is none."
    return _parse_number(await ask_text(judge, text, image))


async def ask_yes_probability(judge: EvalJudge, text: str, image: bytes) -> Probability:
    """Return the probability that the judge answers yes; raises like `ask_yes_no`."""
    return await _ask_probability(judge, text, image, spellings("yes"), _YES_NO_TOKENS, _parse_yes_no)


async def ask_number_probability(judge: EvalJudge, text: str, image: bytes, word: str) -> Probability:
    """Return the probability that the judge answers with a number word such as `three`.

    Raises `UnreadableReplyError` or `ProviderError`.
    """
    number = NUMBERS.index(word.lower())
    return await _ask_probability(
        judge, text, image, number_spellings(word), _NUMBER_TOKENS, lambda reply: _parse_number(reply) == number
    )


async def _ask_probability(
    judge: EvalJudge,
    text: str,
    image: bytes,
    accepted: frozenset[str],
    answers: frozenset[str],
    read: Callable[[str], bool],
) -> Probability:
    """Return the probability of the first tokens `accepted`.

    `answers` are the first tokens of any valid answer; `read` tells whether a complete reply is accepted.
    """
    reply = await judge.ask(JudgeQuestion(text=text, pictures=[image], max_tokens=1, top_logprobs=_TOP_LOGPROBS))
    if reply.first_token:
        if token_probability(reply.first_token, answers) < _MIN_PROBABILITY:
            said = reply.text or " ".join(reply.first_token)
            raise UnreadableReplyError(f"The reply of {judge.name} is not an answer: {said[:120]!r}.")
        return Probability(token_probability(reply.first_token, accepted), "logprobs")
    if judge.samples <= 1:
        return Probability(arithmetic_mean([read(reply.text)]), "hard")
    several = await gather_or_cancel(
        ask_text(judge, text, image, temperature=1.0, attempt=attempt) for attempt in range(1, judge.samples + 1)
    )
    return Probability(arithmetic_mean([read(said) for said in several]), "frequency")


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
    if len(numbers) != 1 or _INEXACT.search(reply):
        raise UnreadableReplyError(f"The judge's reply contains no number or several: {reply[:120]!r}.")
    return numbers.pop()


Facts = dict[str, float | str | list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageScore:
    """The score of one image: value (None if unscored), the facts behind it, and an explanation."""

    value: float | None
    facts: Facts = field(default_factory=dict)
    explanation: str = ""


async def score_samples(
    prompt: BenchmarkPrompt,
    images: Mapping[int, bytes],
    metric: str,
    score_image: Callable[[bytes], Awaitable[ImageScore]],
) -> list[Score]:
    """Score every image of a prompt (PNG bytes by sample) with `score_image`.

    Raises `ProviderError` if the judge cannot be reached.
    """
    scores = []
    results = await gather_or_cancel(try_answer(score_image(image)) for image in images.values())
    for sample, result in zip(images, results, strict=True):
        if isinstance(result, UnreadableReplyError | RefusedError):
            result = ImageScore(value=None, explanation=result.message)  # noqa: PLW2901
        scores.append(make_score(prompt, sample, metric, result))
    return scores


async def try_answer(answer: Awaitable[T]) -> T | UnreadableReplyError | RefusedError:
    """Return an answer, or the error if it is unreadable or refused."""
    try:
        return await answer
    except (UnreadableReplyError, RefusedError) as error:
        return error


def make_score(prompt: BenchmarkPrompt, sample: int, metric: str, scored: ImageScore) -> Score:
    """Create the score of a sample."""
    return Score(
        **prompt.key(sample)._asdict(),
        metric=metric,
        value=scored.value,
        category=prompt.category,
        facts=scored.facts,
        explanation=scored.explanation,
    )


async def score_questions(
    prompt: BenchmarkPrompt, image: bytes, judge: EvalJudge, formula: Callable[[Mapping[int, float], Parents], float]
) -> ImageScore:
    """Apply `formula` to the raw answers (0 or 1) about an image and the questions' parents.

    The prompt's facts hold `questions` and `parents` by number; `formula` returns a number in [0, 1].
    """
    questions: Mapping[int, str] = prompt.facts["questions"]
    replies = await gather_or_cancel(ask_yes_no(judge, question, image) for question in questions.values())
    answers = dict(zip(questions, map(float, replies), strict=True))
    failed = [question for number, question in questions.items() if not answers[number]]
    return ImageScore(
        value=formula(answers, prompt.facts["parents"]),
        facts={ANSWERS_FACT: list(answers.values())},
        explanation=f"no: {' '.join(failed)}" if failed else "",
    )


def get_answers(score: Score, facts: Mapping[str, Any]) -> dict[int, float]:
    """Return the raw answers of a score by question; raises `ValueError` for other questions."""
    answers = score.facts.get(ANSWERS_FACT)
    return dict(zip(facts["questions"], answers if isinstance(answers, list) else (), strict=True))


async def collect_replies(
    judge: EvalJudge, question: JudgeQuestion, read: Callable[[str], T], wanted: int, tries: int
) -> list[T]:
    """Ask until `wanted` replies can be parsed, at most `tries` times.

    The question needs a temperature, so that replies differ; `read` raises `UnreadableReplyError`. Raises
    that error if too few replies are readable, `ProviderError` if the judge cannot be reached.
    """
    found: list[T] = []
    asked, last_error = 0, "none"
    while len(found) < wanted and asked < tries:
        several = range(asked, min(tries, asked + wanted - len(found)))
        asked += len(several)
        replies = await gather_or_cancel(
            try_answer(_ask_and_parse(judge, replace(question, attempt=n), read)) for n in several
        )
        for reply in replies:
            if isinstance(reply, UnreadableReplyError | RefusedError):
                last_error = reply.message
            else:
                found.append(reply)
    if len(found) < wanted:
        raise UnreadableReplyError(f"Only {len(found)} of {asked} replies are readable; the last error: {last_error}")
    return found


async def _ask_and_parse(judge: EvalJudge, question: JudgeQuestion, read: Callable[[str], T]) -> T:
    return read((await judge.ask(question)).text)


def parse_ratings(reply: str, count: int, least: float, most: float) -> list[float]:
    """Parse a reply that ends in a JSON array of `count` numbers from `least` to `most`.

    Raises `UnreadableReplyError` if there is none, or if the last one leaves the scale.
    """
    for found in find_json_arrays(reply):
        # A bool is an int too.
        if len(found) == count and all(type(each) in (int, float) for each in found):
            if all(least <= each <= most for each in found):
                return [float(each) for each in found]
            break
    raise UnreadableReplyError(
        f"The reply does not contain {count} numbers from {least:g} to {most:g}: {reply[:120]!r}."
    )


async def read_image_text(judge: EvalJudge, image: bytes) -> str:
    """Return all text in an image; empty if there is none.

    Raises `UnreadableReplyError` for an empty reply, `ProviderError` if the judge cannot be reached.
    """
    text = await ask_text(judge, _READ_TEXT_PROMPT, image, max_tokens=_MAX_READ_TOKENS)
    return "" if _NO_TEXT.fullmatch(text) else text
