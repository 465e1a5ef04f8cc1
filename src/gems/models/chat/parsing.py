"""Read what chat models really answer: thoughts left in the text, prose, code fences, trailing words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from gems.errors import UnreadableReplyError
from gems.types import AnswerValue

M = TypeVar("M", bound=BaseModel)

_YES = ("yes", "y", "true")
_NO = ("no", "n", "false")
_UNKNOWN = ("unknown", "unclear", "unsure", "uncertain", "cannot", "can't", "n/a")
_LEADING = re.compile(
    r"^[\s*_#>`\"'({\[-]*(?:(?:final )?answer[\s*_\"'`]*[:=]\s*)?[\s*_`\"']*(?:no doubt\b[\s,:-]*)?",
    re.IGNORECASE,
)
_LATER_ANSWER = re.compile(
    r"\b(?:the )?answer\s*(?:is\b(?:\s*:)?|:|=)\s*[\"'*_`]*(yes|no|unknown)\b", re.IGNORECASE
)
_WORD = re.compile(r"n/a\b|[a-z']+")
# "No further remarks" below an answer is none itself.
_ON_ITS_OWN = re.compile(r"\s*(?:$|[.,:;!*_`\"'\u2013\u2014-])")
_BRACKET = re.compile(r"[{\[]")
# The language's name stays in, since JSON is looked for from its bracket on.
_FENCE = re.compile(r"```(.*?)```", re.DOTALL)
_PATIENCE = 20
"""Times that a text is read in search of JSON: every bracket may be the beginning of one that never ends."""


def split_thought(content: str) -> tuple[str, str]:
    """The thought that some servers leave in the content as `<think>` text, and the answer behind it.

    An opening tag may be missing (the chat template wrote it); a thought never closed has no answer. An
    answer that is JSON from its beginning has no thought before it, even where a text in it holds the tag.
    """
    if content.lstrip().startswith(("{", "[", "```")):
        return "", content.strip()
    before, closed, answer = content.rpartition("</think>")
    if closed:
        return before.replace("<think>", "").replace("</think>", "").strip(), answer.strip()
    if content.lstrip().startswith("<think>"):
        return content.lstrip().removeprefix("<think>").strip(), ""
    return "", content.strip()


def mended(value: Any) -> Any:
    """A JSON value without halves of surrogate pairs, which models write and nothing can store or send."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [mended(item) for item in value]
    if isinstance(value, dict):
        return {mended(name): mended(item) for name, item in value.items()}
    return value


def read_json(text: str, form: type[M]) -> M:
    """The first JSON value in `text` that has the given form, whatever stands around it.

    A form that has `from_plain` may also be read from plain words.

    Raises:
        UnreadableReplyError: nothing in `text` has that form.
    """
    fault = "it holds no JSON"
    for value in _json_values(text):
        try:
            return form.model_validate(_fitted(mended(value), form))
        except ValidationError as error:
            fault = error.errors(include_input=False, include_url=False)[0]["msg"]
    if (from_plain := getattr(form, "from_plain", None)) and (plain := from_plain(text)) is not None:
        return cast("M", plain)
    raise UnreadableReplyError(f"The answer is not a {form.__name__} ({fault}): {text[:120]!r}.")


def read_answer(text: str) -> tuple[AnswerValue, str]:
    """Yes, no or unknown as `text` says first, and what it says besides as evidence.

    The first word decides, never a search for "no" anywhere: "Yes, there is nothing else" is a yes.
    Where the text begins with neither, a later "answer: yes" or "the answer is no" decides, and then the
    first line that begins with an answer set off from what follows.
    """
    value, evidence = _leading_answer(text)
    if value is not None:
        return value, evidence
    if later := _LATER_ANSWER.findall(text):
        return later[-1].lower(), text.strip()
    for line in text.splitlines():
        value, evidence = _leading_answer(line, on_its_own=True)
        if value is not None:
            return value, evidence
    return "unknown", text.strip()


def _leading_answer(text: str, *, on_its_own: bool = False) -> tuple[AnswerValue | None, str]:
    """The answer that the first word of `text` is, None where it is none, and what follows it."""
    rest = _LEADING.sub("", text, count=1)
    found = _WORD.match(rest.lower())
    word = found.group() if found else ""
    # A single letter is a word of its own in other languages: the Spanish for "and", for example.
    if (on_its_own or len(word) == 1) and not _ON_ITS_OWN.match(rest[len(word) :]):
        return None, ""
    evidence = rest[len(word) :].lstrip(" \t\r\n.,:;!*_-\u2013\u2014`\"')").rstrip(" \t\r\n*_`")
    values: tuple[tuple[tuple[str, ...], AnswerValue], ...] = (
        (_YES, "yes"),
        (_NO, "no"),
        (_UNKNOWN, "unknown"),
    )
    return next((value for words, value in values if word in words), None), evidence


def yes_probability(logprobs: Any) -> float | None:
    """Probability of yes in [0, 1] from a chat completion's logprobs; None where it cannot be told.

    The first token that spells yes or no is the answer; the probabilities of all spellings of yes among
    its alternatives are added up. What has not the form of OpenAI's tells nothing.
    """
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    for token in content[:8] if isinstance(content, list) else []:
        if _spelling(token) not in ("yes", "no"):
            continue
        alternatives = token.get("top_logprobs") or [token]
        if not isinstance(alternatives, list):
            return None
        # A probability is at most 1, so that no logarithm of one is above 0.
        found = [a.get("logprob") for a in alternatives if _spelling(a) == "yes"]
        if not all(isinstance(value, int | float) and not math.isnan(value) for value in found):
            return None
        return min(1.0, sum(math.exp(min(0.0, value)) for value in found))
    return None


def first_token(logprobs: Any) -> dict[str, float]:
    """Probabilities in [0, 1] of likely first tokens from a chat completion's logprobs; empty for none.

    Tokens are spelled as the server does. What has not the form of OpenAI's is left out.
    """
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    first = content[0] if isinstance(content, list) and content else None
    alternatives = (first.get("top_logprobs") or [first]) if isinstance(first, dict) else []
    found: dict[str, float] = {}
    for each in alternatives if isinstance(alternatives, list) else []:
        token, value = (each.get("token"), each.get("logprob")) if isinstance(each, dict) else (None, None)
        if isinstance(token, str) and isinstance(value, int | float) and not math.isnan(value):
            found[token] = min(1.0, found.get(token, 0.0) + math.exp(min(0.0, value)))
    return found


def _spelling(token: Any) -> str:
    """What a token spells, without what tokenizers and sentences put around words; empty for no token."""
    text = token.get("token") if isinstance(token, dict) else None
    return text.strip(" \n*_\"'`.,Ġ▁").lower() if isinstance(text, str) else ""


def _json_values(text: str) -> Iterator[Any]:
    """JSON objects and arrays in `text`, fenced ones first, then wherever one begins."""
    decoder = json.JSONDecoder(strict=False)
    for piece in [*_FENCE.findall(text), text]:
        position, left = 0, _PATIENCE * len(piece)
        while left >= 0 and (found := _BRACKET.search(piece, position)) is not None:
            try:
                value, position = decoder.raw_decode(piece, found.start())
                yield value
            except json.JSONDecodeError as error:
                # Python counts the lines up to there, which is quick and yet adds up.
                left -= max(error.pos - found.start(), error.pos // 64)
                position = found.start() + 1
            except ValueError:
                # A number of more digits than Python reads; the error does not say how far it came.
                left -= len(piece)
                position = found.start() + 1
            except RecursionError:
                # A model caught in a loop writes brackets without end; nothing behind them is an answer.
                break


def _fitted(value: Any, form: type[BaseModel]) -> Any:
    """Meet near misses: a bare list for a form that holds one list, wrapped in the form's only field."""
    if isinstance(value, list) and len(form.model_fields) == 1:
        name = next(iter(form.model_fields))
        return {name: [{"question": item} if isinstance(item, str) else item for item in value]}
    return value
