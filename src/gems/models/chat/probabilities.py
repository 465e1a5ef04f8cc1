"""Read the probability of yes from the log probabilities of a reply's tokens.

Of a plain answer it stands at its first word. Of a checklist each answer has one at the token of its own verdict, where
the tokens are exactly the text that was read; where that is in doubt, there is no probability rather than a wrong one.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from gems.models.chat.answers import read_verdict
from gems.models.chat.parsing import FoundValue
from gems.models.chat.schemas import AnswerReply, read_number
from gems.types import AnswerValue

_WORDS: dict[str, AnswerValue] = {
    **dict.fromkeys(("yes", "是", "はい", "네", "예", "sí", "oui", "ja", "sim", "sì", "да", "نعم", "हाँ", "हां"), "yes"),
    **dict.fromkeys(
        ("no", "否", "不是", "不", "いいえ", "아니요", "아니오", "non", "nein", "não", "нет", "لا", "नहीं"), "no"
    ),
}
"""Words that are a verdict also where probabilities are looked up in the middle of a text."""
_WORDS_IN_LISTS: dict[str, AnswerValue] = {
    **_WORDS,
    **dict.fromkeys(("true", "y"), "yes"),
    **dict.fromkeys(("false", "n"), "no"),
    **dict.fromkeys(("unknown", "unclear", "uncertain"), "unknown"),
}
_WORD = re.compile(r"[^\s\"'`*_.,:;!?()\[\]{}<>\\/|\u3001-\u300f\uff01-\uff1f]+")
_FIRST_WORD = re.compile(rf"[\s\"'`*_:]*({_WORD.pattern})")
_BLANKS = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(strict=False)
_DEEPEST = 20
_LEAST_LOGARITHM = -1e4
_LEAST_KNOWN = 0.1
"""If all verdicts among a token's alternatives are less likely than this, they say nothing."""


class _Verdict(NamedTuple):
    """The verdict of an object in JSON text, with the number of its question, and its place."""

    number: Any
    value: Any
    start: int
    end: int


class _Tokens(NamedTuple):
    """Tokens whose bytes, joined, hold the text; `starts` are their places in bytes of the text.

    `read` returns the bytes of a token.
    """

    tokens: list[dict[str, Any]]
    starts: list[int]
    read: Callable[[Any], bytes | None]


def yes_probability(logprobs: Any) -> float | None:
    """Return the probability of yes in [0, 1], over all its spellings, at the first token of yes or no."""
    for token in list_tokens(logprobs)[:8]:
        if _normalize_token(token) not in _WORDS:
            continue
        alternatives = token.get("top_logprobs") or [token]
        if not isinstance(alternatives, list):
            return None
        found = [_to_probability(a.get("logprob")) for a in alternatives if _WORDS.get(_normalize_token(a)) == "yes"]
        return None if None in found else min(1.0, sum(filter(None, found)))
    return None


def first_token(logprobs: Any) -> dict[str, float]:
    """Return probabilities in [0, 1] of the first token's alternatives from OpenAI-style logprobs."""
    first = next(iter(list_tokens(logprobs)), None)
    alternatives = (first.get("top_logprobs") or [first]) if isinstance(first, dict) else []
    found: dict[str, float] = {}
    for each in alternatives if isinstance(alternatives, list) else []:
        token, value = (each.get("token"), each.get("logprob")) if isinstance(each, dict) else (None, None)
        if isinstance(token, str) and (likely := _to_probability(value)) is not None:
            found[token] = min(1.0, found.get(token, 0.0) + likely)
    return found


def list_tokens(logprobs: Any) -> list[Any]:
    """Return the tokens of OpenAI-style logprobs, as they were sent; none of anything else."""
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    return content if isinstance(content, list) else []


def yes_probabilities(
    text: str, place: FoundValue, answers: Sequence[AnswerReply], logprobs: Any
) -> tuple[float | None, ...]:
    """Return the probability of yes in [0, 1] of each answer of a checklist, None where it cannot be told.

    It is the share of yes among yes, no and unknown, over all their spellings among the alternatives of the token in
    which the verdict begins: what may as well be unknown is no sure yes. An answer of unknown has none.

    Args:
        text: The reply without its thought, as it was read.
        place: The JSON value that was read, in `text`.
        answers: What was read of it.
        logprobs: The tokens of the whole reply, which may be more than the text.
    """
    nothing: tuple[float | None, ...] = (None,) * len(answers)
    verdicts: list[_Verdict] = []
    try:
        _scan_value(text, place.start, "", verdicts)
    except ValueError:
        return nothing
    verdicts = sorted((each for each in verdicts if isinstance(each.number, int)), key=lambda each: each.start)
    read = [(each.number, read_verdict(each.value)) for each in verdicts]
    found = _find_tokens(text, logprobs)
    if found is None or read != [(answer.number, answer.answer) for answer in answers]:
        return nothing
    words = [_WORD.search(text, verdict.start, verdict.end) for verdict in verdicts]
    places = [word.start() if word else verdict.start for word, verdict in zip(words, verdicts, strict=True)]
    offsets = list(accumulate(len(text[a:b].encode()) for a, b in pairwise([0, *places])))
    indices = [bisect_right(found.starts, offset) - 1 for offset in offsets]
    count = Counter(indices)
    return tuple(
        _share_of_yes(found, index, offset - found.starts[index], value)
        # Of a token with two verdicts the alternatives differ in more than one, and a word that does not say what was
        # read of the whole text is not where that was decided.
        if count[index] == 1 and word and _WORDS_IN_LISTS.get(word[0].lower()) == value != "unknown"
        else None
        for (_, value), word, index, offset in zip(read, words, indices, offsets, strict=True)
    )


def _scan_value(text: str, start: int, name: str, found: list[_Verdict], depth: int = 0) -> int:
    """Append the verdicts within the valid JSON value at `start` to `found`; return its end.

    A verdict is the field `answer` of an object with a number, `{"number": 1, "answer": "yes"}`. The number may also be
    the key, of the object or of the verdict: `{"1": {"answer": "yes"}}`, `{"1": "yes"}`. `name` is the key of this
    value. Raises ValueError for JSON that is nested too deeply.
    """
    if depth > _DEEPEST:
        raise ValueError("it is nested too deeply")
    opening = text[start]
    if opening not in "{[":
        return int(_DECODER.raw_decode(text, start)[1])
    fields: dict[str, tuple[Any, int, int]] = {}
    at = _skip(text, start + 1)
    while text[at] not in "}]":
        key = ""
        if opening == "{":
            key, at = _DECODER.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)
        first, is_scalar = at, text[at] not in "{["
        at = _scan_value(text, first, key, found, depth + 1)
        if is_scalar and opening == "{":
            fields[key] = (_DECODER.raw_decode(text, first)[0], first, at)
        at = _skip(text, at)
        at = _skip(text, at + 1) if text[at] == "," else at
    if "answer" in fields:
        number = fields["number"][0] if "number" in fields else name
        found.append(_Verdict(read_number(number), *fields["answer"]))
    else:
        numbered = [(read_number(key), field) for key, field in fields.items() if isinstance(field[0], str | bool)]
        found += [_Verdict(number, *field) for number, field in numbered if isinstance(number, int)]
    return at + 1


def _skip(text: str, at: int) -> int:
    blanks = _BLANKS.match(text, at)
    return blanks.end() if blanks else at


def _find_tokens(text: str, logprobs: Any) -> _Tokens | None:
    """Return the tokens, in which the text is looked for from the end; None if they do not hold it exactly.

    In front of it may be a thought, and special tokens on both sides.
    """
    tokens = list_tokens(logprobs)
    # Some servers give a part of a character as bytes only, and others nonsense as bytes.
    for read in (_bytes_of, _text_of):
        pieces = [piece for token in tokens if (piece := read(token)) is not None]
        start = b"".join(pieces).rfind(text.encode()) if len(pieces) == len(tokens) else -1
        if start >= 0:
            return _Tokens(tokens, list(accumulate(map(len, pieces), initial=-start))[:-1], read)
    return None


def _bytes_of(token: Any) -> bytes | None:
    """Return a token's bytes, or those of its text if they are not told; None if it has neither."""
    told = token.get("bytes") if isinstance(token, dict) else None
    if isinstance(told, list) and all(type(value) is int and 0 <= value <= 255 for value in told):
        return bytes(told)
    return _text_of(token)


def _text_of(token: Any) -> bytes | None:
    text = token.get("token") if isinstance(token, dict) else None
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else None


def _share_of_yes(found: _Tokens, index: int, lead: int, value: AnswerValue) -> float | None:
    """Return the share of yes among the verdicts of a token's alternatives.

    The token has `lead` bytes in front of the word, and says `value`.
    """
    token = found.tokens[index]
    alternatives, own = token.get("top_logprobs"), found.read(token) or b""
    if not isinstance(alternatives, list) or _read_token(own, own[:lead]) != value:
        return None
    likely = [(found.read(each), each.get("logprob")) for each in alternatives if isinstance(each, dict)]
    if own not in dict(likely):
        # Servers name the likeliest ones, to which the one that was drawn need not belong.
        likely.append((own, token.get("logprob")))
    if len(likely) == 1:
        # All that is known would be the one verdict.
        return None
    shares: dict[AnswerValue, float] = {"yes": 0.0, "no": 0.0, "unknown": 0.0}
    for said, logprob in likely:
        if said is None or (verdict := _read_token(said, own[:lead])) is None:
            continue
        if (probability := _to_probability(logprob)) is None:
            return None
        shares[verdict] += probability
    known = sum(shares.values())
    return shares["yes"] / known if known >= _LEAST_KNOWN else None


def _to_probability(logprob: Any) -> float | None:
    """Return the probability in [0, 1] of a logarithm; None for what is no number."""
    if not isinstance(logprob, int | float) or (isinstance(logprob, float) and math.isnan(logprob)):
        return None
    # Logarithms above 0 would give probabilities above 1.
    return math.exp(min(0.0, max(_LEAST_LOGARITHM, logprob)))


def _read_token(piece: bytes, lead: bytes) -> AnswerValue | None:
    """Return the verdict of the first word in a token behind `lead`, if it has that; a word may go on in the next."""
    text = piece.removeprefix(lead).decode("utf-8", "replace")
    word = _FIRST_WORD.match(text)
    if word is None:
        return None
    said = word[1].lower()
    if (value := _WORDS_IN_LISTS.get(said)) is not None or word.end() < len(text):
        return value
    begun = {value for spelling, value in _WORDS_IN_LISTS.items() if spelling.startswith(said)}
    return begun.pop() if len(begun) == 1 else None


def _normalize_token(token: Any) -> str:
    """Return a token's word in lower case without punctuation and tokenizer marks; empty if invalid."""
    text = token.get("token") if isinstance(token, dict) else None
    return text.strip(" \n*_\"'`.,Ġ▁").lower() if isinstance(text, str) else ""
