"""Parse chat replies: reasoning in the text, JSON in prose and code fences, yes/no answers, probabilities."""

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

_ANSWERS: dict[AnswerValue, tuple[str, ...]] = {
    "yes": ("yes", "y", "true"),
    "no": ("no", "n", "false"),
    "unknown": ("unknown", "unclear", "unsure", "uncertain", "cannot", "can't", "n/a"),
}
_LEADING = re.compile(
    r"^[\s*_#>`\"'({\[-]*(?:(?:final )?answer[\s*_\"'`]*[:=]\s*)?[\s*_`\"']*(?:no doubt\b[\s,:-]*)?", re.IGNORECASE
)
_LATER_ANSWER = re.compile(r"\b(?:the )?answer\s*(?:is\b(?:\s*:)?|:|=)\s*[\"'*_`]*(yes|no|unknown)\b", re.IGNORECASE)
_WORD = re.compile(r"n/a\b|[a-z']+")
# A later line such as "No further remarks" is not an answer.
_SET_OFF = re.compile(r"\s*(?:$|[.,:;!*_`\"'\u2013\u2014-])")
_BRACKET = re.compile(r"[{\[]")
# May include the language's name: JSON is searched from its first bracket.
_FENCE = re.compile(r"```(.*?)```", re.DOTALL)
_SCAN_BUDGET = 20
"""Limit of the characters scanned for JSON, in lengths of the text: every bracket may begin a value."""


def split_thought(content: str) -> tuple[str, str]:
    """Split content into the reasoning inside `<think>` tags and the answer after it.

    The opening tag may be missing if the chat template wrote it; unclosed reasoning has no answer. Content
    that starts as JSON has no reasoning, even if a string in it contains the tag.
    """
    if content.lstrip().startswith(("{", "[", "```")):
        return "", content.strip()
    before, closed, answer = content.rpartition("</think>")
    if closed:
        return before.replace("<think>", "").replace("</think>", "").strip(), answer.strip()
    if content.lstrip().startswith("<think>"):
        return content.lstrip().removeprefix("<think>").strip(), ""
    return "", content.strip()


def replace_surrogates(value: Any) -> Any:
    """Replace lone surrogates in a JSON value, which models write and which cannot be encoded."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [replace_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {replace_surrogates(name): replace_surrogates(item) for name, item in value.items()}
    return value


def read_json(text: str, form: type[M]) -> M:
    """Parse the first JSON value in `text` that matches `form`, or text that its `from_plain` accepts."""
    fault = "it contains no JSON"
    for value in _find_json_values(text):
        try:
            return form.model_validate(_wrap_list(replace_surrogates(value), form))
        except ValidationError as error:
            fault = error.errors(include_input=False, include_url=False)[0]["msg"]
    if (from_plain := getattr(form, "from_plain", None)) and (plain := from_plain(text)) is not None:
        return cast("M", plain)
    raise UnreadableReplyError(f"The answer is not a {form.__name__} ({fault}): {text[:120]!r}.")


def read_answer(text: str) -> tuple[AnswerValue, str]:
    """Parse yes, no or unknown, and the remaining text as evidence.

    The first word decides: "Yes, there is nothing else" is a yes. Otherwise the last "answer: yes" or "the
    answer is no" decides, then the first line that begins with an answer and punctuation.
    """
    value, evidence = _parse_leading_answer(text)
    if value is not None:
        return value, evidence
    if later := _LATER_ANSWER.findall(text):
        return later[-1].lower(), text.strip()
    for line in text.splitlines():
        value, evidence = _parse_leading_answer(line, on_its_own=True)
        if value is not None:
            return value, evidence
    return "unknown", text.strip()


def _parse_leading_answer(text: str, *, on_its_own: bool = False) -> tuple[AnswerValue | None, str]:
    """Parse the first word as an answer, None if it is not one; also return the text after it."""
    rest = _LEADING.sub("", text, count=1)
    match = _WORD.match(rest.lower())
    word = match.group() if match else ""
    # A single letter can be a word in other languages, e.g. the Spanish "y".
    if (on_its_own or len(word) == 1) and not _SET_OFF.match(rest[len(word) :]):
        return None, ""
    evidence = rest[len(word) :].lstrip(" \t\r\n.,:;!*_-\u2013\u2014`\"')").rstrip(" \t\r\n*_`")
    return next((value for value, words in _ANSWERS.items() if word in words), None), evidence


def yes_probability(logprobs: Any) -> float | None:
    """Return the probability of yes in [0, 1], over all its spellings, at the first token of yes or no."""
    for token in _list_tokens(logprobs)[:8]:
        if _normalize_token(token) not in ("yes", "no"):
            continue
        alternatives = token.get("top_logprobs") or [token]
        if not isinstance(alternatives, list):
            return None
        # Logarithms above 0 would give probabilities above 1.
        found = [a.get("logprob") for a in alternatives if _normalize_token(a) == "yes"]
        if not all(isinstance(value, int | float) and not math.isnan(value) for value in found):
            return None
        return min(1.0, sum(math.exp(min(0.0, value)) for value in found))
    return None


def first_token(logprobs: Any) -> dict[str, float]:
    """Return probabilities in [0, 1] of the first token's alternatives from OpenAI-style logprobs."""
    first = next(iter(_list_tokens(logprobs)), None)
    alternatives = (first.get("top_logprobs") or [first]) if isinstance(first, dict) else []
    found: dict[str, float] = {}
    for each in alternatives if isinstance(alternatives, list) else []:
        token, value = (each.get("token"), each.get("logprob")) if isinstance(each, dict) else (None, None)
        if isinstance(token, str) and isinstance(value, int | float) and not math.isnan(value):
            found[token] = min(1.0, found.get(token, 0.0) + math.exp(min(0.0, value)))
    return found


def _list_tokens(logprobs: Any) -> list[Any]:
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    return content if isinstance(content, list) else []


def _normalize_token(token: Any) -> str:
    """Return a token's word in lower case without punctuation and tokenizer marks; empty if invalid."""
    text = token.get("token") if isinstance(token, dict) else None
    return text.strip(" \n*_\"'`.,Ġ▁").lower() if isinstance(text, str) else ""


def _find_json_values(text: str) -> Iterator[Any]:
    """Yield JSON objects and arrays in `text`, fenced ones first."""
    decoder = json.JSONDecoder(strict=False)
    for piece in [*_FENCE.findall(text), text]:
        position, left = 0, _SCAN_BUDGET * len(piece)
        while left >= 0 and (found := _BRACKET.search(piece, position)) is not None:
            try:
                value, position = decoder.raw_decode(piece, found.start())
                yield value
            except ValueError as error:
                # The error of a number with too many digits has no position. Python counts the lines up to
                # an error, which is fast but adds up.
                end = getattr(error, "pos", None)
                left -= len(piece) if end is None else max(end - found.start(), end // 64)
                position = found.start() + 1
            except RecursionError:
                # A model in a loop writes brackets endlessly; no answer follows.
                break


def _wrap_list(value: Any, form: type[BaseModel]) -> Any:
    """Wrap a bare list in the only field of a schema with one field."""
    if isinstance(value, list) and len(form.model_fields) == 1:
        name = next(iter(form.model_fields))
        return {name: [{"question": item} if isinstance(item, str) else item for item in value]}
    return value
