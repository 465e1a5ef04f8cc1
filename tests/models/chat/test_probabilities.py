"""Probabilities of yes at the tokens of single answers and of the verdicts in checklists."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

import tests.support.hypothesis_profile  # noqa: F401 - registers the profile
from gems.models.chat.messages import ChatReply, Question
from gems.models.chat.probabilities import yes_probability
from gems.models.chat.reply import read_reply
from gems.models.chat.schemas import ChecklistReply

ASKED = Question(task="checklist", system="", parts=(), reply=ChecklistReply, logprobs=True)
VERDICTS = ("yes", "no", "unknown")
NO_CHARACTER = st.characters(exclude_categories=["Cs"])
YES = {"yes": 0.6, "no": 0.1, "unknown": 0.2}


def logprobs(*tokens: dict[str, float]) -> dict[str, Any]:
    """Each token by its alternatives with their probabilities, the chosen one first."""
    content = []
    for alternatives in tokens:
        named = [{"token": token, "logprob": math.log(p)} for token, p in alternatives.items()]
        content.append({**named[0], "top_logprobs": named})
    return {"content": content}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ({}, None),
        ({"content": None}, None),
        (logprobs({"Maybe": 0.9, "Yes": 0.1}), None),
        (logprobs({"Yes": 0.7, " yes": 0.2, "No": 0.1}), 0.9),
        (logprobs({"No": 0.6, "Yes": 0.4}), 0.4),
        (logprobs({"no": 1.0}), 0.0),
        (logprobs({"**": 1.0}, {"Yes": 0.8, "No": 0.2}), 0.8),
        (logprobs({"Ġyes": 0.8, "No": 0.2}), 0.8),
        (logprobs({"Yes": 0.7, "yes": 0.7}), 1.0),
        (logprobs(*[{"word": 1.0}] * 8, {"Yes": 1.0}), None),
        ({"content": [{"token": "Yes", "logprob": math.log(0.6)}]}, 0.6),
        ({"content": [{"token": "Yes", "logprob": 1000.0}]}, 1.0),
        # Endpoints send all sorts of things there.
        *(({"content": [odd]}, None) for odd in (None, "Yes", [], {}, {"token": None}, {"token": "Yes"})),
        ({"content": [{"token": "Yes", "top_logprobs": "Yes"}]}, None),
        ({"content": [{"token": "Yes", "top_logprobs": [None, {"token": "Yes", "logprob": "0"}]}]}, None),
        ({"content": [{"token": "Yes", "logprob": math.nan}]}, None),
        ({"content": {"token": "Yes"}}, None),
        ({"content": 5}, None),
        *((odd, None) for odd in (True, [], "Yes")),
    ],
)
def test_probability_of_yes(given: Any, expected: float | None) -> None:
    assert yes_probability(given) == (None if expected is None else pytest.approx(expected))


def token(piece: bytes | str, likely: dict[Any, float] | None = None, own: float = 0.5, **more: Any) -> dict[str, Any]:
    """A token with its alternatives, as servers send it."""
    named = [spelled(said, share) for said, share in (likely or {}).items()]
    return spelled(piece, own) | {"top_logprobs": named} | more


def spelled(piece: bytes | str, share: float) -> dict[str, Any]:
    data = piece if isinstance(piece, bytes) else piece.encode()
    return {"token": data.decode("utf-8", "replace"), "logprob": math.log(share), "bytes": list(data)}


def read(content: str, tokens: Iterable[dict[str, Any]]) -> ChatReply:
    about = {"finish_reason": "stop", "logprobs": {"content": list(tokens)}}
    return read_reply(AIMessage(content, response_metadata=about), ASKED, "judge", ())


def probabilities(content: str, tokens: Iterable[dict[str, Any]]) -> list[float | None]:
    return [each and round(each, 6) for each in read(content, tokens).yes_probabilities]


def answering(*said: str) -> str:
    return json.dumps(
        {"answers": [{"number": n, "evidence": "seen", "answer": word} for n, word in enumerate(said, 1)]}
    )


def at_words(text: str, *likely: dict[str, float]) -> list[dict[str, Any]]:
    """Tokens of a text, one for each word and mark; those of the verdicts have these alternatives in turn."""
    left, found = list(likely), []
    for piece in re.findall(r"\w+|\W", text):
        likely_here = left.pop(0) if left and piece.lower() in VERDICTS else {piece: 0.9, "?": 0.1}
        spellings = {piece if name == piece.lower() else name: share for name, share in likely_here.items()}
        found.append(token(piece, spellings))
    return found


def split(text: str, *pieces: str) -> list[str]:
    """The text as these pieces, each where it stands first behind the one before, and all between them."""
    found = []
    for piece in pieces:
        before, _, text = text.partition(piece)
        found += [before, piece]
    return [*found, text]


class Words:
    """A checklist's reply as bytes, with the places and verdicts of its words, cut into tokens."""

    def __init__(self, items: list[tuple[str, str]], blank: str, is_late: bool, is_ascii: bool) -> None:
        self.places: dict[int, int] = {}
        self.said = [verdict for verdict, _ in items]
        self.data = f'{{{blank}"answers":{blank}['.encode()
        for number, (verdict, evidence) in enumerate(items):
            seen = f'"evidence":{blank}{json.dumps(evidence, ensure_ascii=is_ascii)}'
            self.data += f'{"," * bool(number)}{{"number":{blank}{number + 1},'.encode()
            self.data += f'{seen + "," if is_late else ""}{blank}"answer":{blank}"'.encode()
            self.places[len(self.data)] = number
            self.data += f'{verdict}"{"" if is_late else "," + seen}}}'.encode()
        self.data += b"]}"

    def cut(self, cuts: list[int], chances: list[dict[str, float]]) -> tuple[list[dict[str, Any]], list[float | None]]:
        """The tokens between these places, and what is known of each answer."""
        tokens, known = [], [None] * len(self.said)
        edges = sorted({0, len(self.data), *(cut % len(self.data) for cut in cuts)})
        for start, end in pairwise(edges):
            piece = self.data[start:end]
            within = [place for place in self.places if start <= place < end]
            likely: dict[bytes, float] = {piece: 0.5}
            if len(within) == 1:
                number = self.places[within[0]]
                chance, word = chances[number], self.said[number].encode()
                lead, rest = piece[: within[0] - start], piece[within[0] - start :].removeprefix(word)
                others = {name: share for name, share in chance.items() if name != self.said[number]}
                goes_on = not piece[within[0] - start :].startswith(word)
                likely = {lead + name.encode() + (b"" if goes_on else rest): share for name, share in others.items()}
                likely |= {piece: chance[self.said[number]], lead + b"?": 0.01}
                known[number] = chance["yes"] / sum(chance.values()) if self.said[number] != "unknown" else None
            tokens.append(token(piece, likely, likely[piece]))
        return tokens, known


ITEMS = st.lists(st.tuples(st.sampled_from(VERDICTS), st.text(NO_CHARACTER, max_size=12)), min_size=1, max_size=5)
SHARES = st.fixed_dictionaries(dict.fromkeys(VERDICTS, st.floats(0.05, 0.3)))


@given(
    ITEMS,
    st.lists(st.integers(0, 10_000), max_size=120),
    st.lists(SHARES, min_size=5, max_size=5),
    st.sampled_from(["", " ", "\n  "]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([("", ""), ("<think>\nyes, no\n</think>\n", ""), ("```json\n", "\n```"), ("So: ", " Done.")]),
    st.booleans(),
)
def test_any_tokens_of_a_reply_tell_the_same(
    items: list[tuple[str, str]],
    cuts: list[int],
    chances: list[dict[str, float]],
    blank: str,
    is_late: bool,
    is_ascii: bool,
    around: tuple[str, str],
    is_special: bool,
) -> None:
    """Wherever they are cut, also within characters: the token in which a verdict begins has its probability."""
    reply = Words(items, blank, is_late, is_ascii)
    tokens, known = reply.cut(cuts, chances)
    whole = [token(around[0]), *tokens, token(around[1]), *([token("<|im_end|>")] if is_special else [])]
    found = read(around[0] + reply.data.decode() + around[1], whole)
    assert found.yes_probabilities == tuple(each if each is None else pytest.approx(each) for each in known)
    if around[0].startswith("<think>"):
        # Servers take the thought out of the content, but not out of the tokens.
        assert read(reply.data.decode(), whole).yes_probabilities == found.yes_probabilities


ONE = answering("yes")
SURE = 0.666667
"""0.6 of 0.9."""


@pytest.mark.parametrize(
    ("pieces", "likely"),
    [
        (("yes",), YES),
        (("ye", "s"), {"ye": 0.6, "no": 0.1, "un": 0.2}),
        (("y", "es"), {"y": 0.6, "n": 0.1, "u": 0.2}),
        ((' "yes',), {' "yes': 0.6, ' "no': 0.1, ' "unknown': 0.2}),
        (('": "yes"}',), {'": "yes"}': 0.6, '": "no"}': 0.1, '": "unknown"': 0.2}),
        ((' "ye',), {' "ye': 0.6, ' "': 0.05, ' "no': 0.1, ' "unk': 0.2}),
        # All spellings count, also without the mark in front; what is no verdict does not.
        (
            (' "yes',),
            {' "yes': 0.3, ' "Yes': 0.2, "yes": 0.1, ' "no': 0.06, '"NO': 0.04, ' "unclear': 0.2, " not": 0.1},
        ),
        # The one that was drawn need not be among the likeliest.
        (("yes",), {"no": 0.1, "unknown": 0.2}),
        (("yes",), {"yes": 0.6, "no": 0.1, "unknown": 0.2, "nothing": 0.05, "none": 0.05}),
    ],
)
def test_tokens_of_a_verdict(pieces: tuple[str, ...], likely: dict[str, float]) -> None:
    tokens = [token(piece, likely if piece == pieces[0] else {}, 0.6) for piece in split(ONE, *pieces)]
    assert probabilities(ONE, tokens) == [SURE]


@pytest.mark.parametrize(
    "odd",
    [
        {"top_logprobs": None},
        {"top_logprobs": []},
        {"top_logprobs": "yes"},
        {"top_logprobs": [spelled("yes", 0.9)]},
        {"top_logprobs": [{"token": "yes", "logprob": None}, spelled("no", 0.1)]},
        {"top_logprobs": [{"token": "yes", "logprob": math.nan}, spelled("no", 0.1)]},
        # A verdict that only a grammar made the model say.
        {"top_logprobs": [spelled("I", 0.9), spelled("The", 0.05), spelled("yes", 0.0001)]},
        {"token": 5, "bytes": None},
        {"token": "no", "bytes": None},
    ],
)
def test_no_probability_rather_than_a_wrong_one(odd: dict[str, Any]) -> None:
    tokens = [each | odd if each["token"] == "yes" else each for each in at_words(ONE, YES)]
    assert probabilities(ONE, tokens) == [None]
    assert probabilities(ONE, at_words(ONE, YES)) == [SURE]


def test_logarithms_of_any_size() -> None:
    for logprob in (-9999.0, -math.inf, -(10**400)):
        no = {"token": "no", "logprob": logprob}
        tokens = [
            each | {"top_logprobs": [spelled("yes", 0.9), no]} if each["token"] == "yes" else each
            for each in at_words(ONE, YES)
        ]
        assert probabilities(ONE, tokens) == [1.0]


def test_tokens_that_are_not_the_text_tell_nothing() -> None:
    tokens = at_words(ONE, YES)
    assert probabilities(ONE, tokens[:3] + tokens[4:]) == [None]
    assert probabilities(ONE, tokens[2:]) == [None]
    assert probabilities(ONE, []) == [None]
    marked = [each | {"token": each["token"].replace(" ", "\u0120"), "bytes": None} for each in tokens]
    assert probabilities(ONE, marked) == [None]
    # Where the bytes are nonsense the texts count, and the other way round.
    assert probabilities(ONE, [each | {"bytes": [1]} for each in tokens]) == [SURE]
    assert probabilities(ONE, [each | {"token": ""} for each in tokens]) == [SURE]


def test_the_answer_that_was_read_counts() -> None:
    draft, last = answering("no", "no"), answering("yes", "no")
    content = f"First I thought {draft}, but then: {last}"
    shares = [{"no": 0.9, "yes": 0.1}] * 2 + [YES, {"no": 0.75, "yes": 0.25}]
    # Neither the key `answer` nor the draft's answer is the verdict.
    assert probabilities(content, at_words(content, *shares)) == [SURE, 0.25]
    same = f"<think>{last}</think>{last}"
    assert probabilities(same, at_words(same, *shares)) == [SURE, 0.25]
    assert probabilities(last, at_words(same, *shares)) == [SURE, 0.25]
    anew = '{"answers": [{"number": 1, "ans\n' + last
    assert probabilities(anew, at_words(anew, YES, {"no": 0.75, "yes": 0.25})) == [SURE, 0.25]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('{"result": {"answers": [{"number": "Q1", "answer": "Yes, clearly there."}]}}', [SURE]),
        ('[{"answer": "YES", "number": 1, "box": {"x1": 1, "y1": 2}}]', [SURE]),
        ('{"answers": {"1": "yes", "2": {"answer": "yes"}}}', [SURE, SURE]),
        # Read, but not at the first word.
        ('{"answers": [{"number": 1, "answer": "Answer: yes"}]}', [None]),
        ('{"answers": [{"number": 1, "answer": "unknown"}, {"number": 2, "answer": "yes"}]}', [None, SURE]),
        # Of two answers to one question, each has its own.
        ('{"answers": [{"number": 1, "answer": "yes"}, {"number": 1, "answer": "yes"}]}', [SURE, SURE]),
        # What is not one object for each answer cannot be told apart.
        ('{"note": {"number": 3, "answer": "yes"}, "answers": [{"number": 1, "answer": "yes"}]}', [None]),
        ('{"result": "{\\"answers\\": [{\\"number\\": 1, \\"answer\\": \\"yes\\"}]}"}', [None]),
        # Mended, or within a text.
        ('{"answers": [{"number": 1, "answer": "yes",}]}', []),
        (json.dumps(ONE), []),
    ],
)
def test_forms_of_checklists(content: str, found: list[float | None]) -> None:
    assert probabilities(content, at_words(content, YES, YES)) == found


def test_a_boolean_is_a_verdict() -> None:
    content = '{"answers": [{"number": 1, "answer": true}]}'
    tokens = [token(p, {"true": 0.6, "false": 0.3}, 0.6) for p in split(content, "true")]
    assert probabilities(content, tokens) == [SURE]


def test_a_checklist_is_no_single_answer() -> None:
    content = answering("yes")
    assert read(content, at_words(content, YES)).yes_probability is None
