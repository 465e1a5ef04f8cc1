"""Collect several readable replies of a judge about one image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from gems.errors import RefusedError, UnreadableReplyError
from gems.evals.benchmarks.judging import find_json_arrays
from gems.evals.judge import EvalJudge, JudgeQuestion
from gems.evals.records import gather_or_cancel

T = TypeVar("T")


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
            _ask_and_parse(judge, replace(question, attempt=n), read) for n in several
        )
        for reply in replies:
            if isinstance(reply, UnreadableReplyError | RefusedError):
                last_error = reply.message
            else:
                found.append(reply)
    if len(found) < wanted:
        raise UnreadableReplyError(
            f"Only {len(found)} of {asked} replies are readable; the last error: {last_error}"
        )
    return found


async def _ask_and_parse(
    judge: EvalJudge, question: JudgeQuestion, read: Callable[[str], T]
) -> T | UnreadableReplyError | RefusedError:
    try:
        return read((await judge.ask(question)).text)
    except (UnreadableReplyError, RefusedError) as error:
        return error


def parse_ratings(reply: str, count: int, least: float, most: float) -> list[float]:
    """Parse a reply that ends in a JSON array of `count` numbers from `least` to `most`.

    Raises `UnreadableReplyError` if there is none.
    """
    for found in find_json_arrays(reply):
        if len(found) == count and all(_is_rating(each, least, most) for each in found):
            return [float(each) for each in found]
    raise UnreadableReplyError(
        f"The reply does not contain {count} numbers from {least:g} to {most:g}: {reply[:120]!r}."
    )


def _is_rating(value: Any, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
