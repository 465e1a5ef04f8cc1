"""Several replies of a judge about one image, of which only those count that can be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from gems.errors import RefusedError, UnreadableReplyError
from gems.evals.benchmarks.judging import find_json_arrays
from gems.evals.gathering import gather_or_cancel
from gems.evals.judge import EvalJudge, JudgeQuestion

T = TypeVar("T")


async def collect_replies(
    judge: EvalJudge, question: JudgeQuestion, read: Callable[[str], T], wanted: int, tries: int
) -> list[T]:
    """Ask until enough replies can be read.

    Args:
        judge: Who is asked.
        question: What is asked each time; with a temperature, so that replies differ.
        read: Reads a reply; raises `UnreadableReplyError` where it is none.
        wanted: Replies that are needed, from 1.
        tries: Times to ask at most.

    Raises:
        UnreadableReplyError: too few could be read.
        ProviderError: the judge cannot be reached.
    """
    found: list[T] = []
    asked, fault = 0, "nothing was asked"
    while len(found) < wanted and asked < tries:
        several = range(asked, min(tries, asked + wanted - len(found)))
        asked += len(several)
        replies = await gather_or_cancel(
            _ask_and_parse(judge, replace(question, attempt=n), read) for n in several
        )
        for reply in replies:
            if isinstance(reply, UnreadableReplyError | RefusedError):
                fault = reply.message
            else:
                found.append(reply)
    if len(found) < wanted:
        raise UnreadableReplyError(f"Only {len(found)} of {asked} replies can be read; the last: {fault}")
    return found


async def _ask_and_parse(
    judge: EvalJudge, question: JudgeQuestion, read: Callable[[str], T]
) -> T | UnreadableReplyError | RefusedError:
    try:
        return read((await judge.ask(question)).text)
    except (UnreadableReplyError, RefusedError) as error:
        return error


def parse_ratings(reply: str, count: int, least: float, most: float) -> list[float]:
    """The ratings in a reply that is to be a JSON array of numbers.

    Args:
        reply: What the judge said; thoughts may stand before the array.
        count: How many there must be.
        least: The smallest there is.
        most: The largest.

    Raises:
        UnreadableReplyError: there is no such array.
    """
    for found in find_json_arrays(reply):
        if len(found) == count and all(_is_rating(each, least, most) for each in found):
            return [float(each) for each in found]
    raise UnreadableReplyError(f"No {count} numbers from {least:g} to {most:g} are in it: {reply[:120]!r}.")


def _is_rating(value: Any, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
