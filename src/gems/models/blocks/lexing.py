"""Split text into tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gems.models.blocks import vocabulary as words

MAX_CHARACTERS = 8000
"""Longer prompts are truncated, which bounds the parser's time."""
_SIDE = r"(?:top|bottom|left|right|upper|lower)"
_SPACE = r"\s+"


def _phrase(*alternatives: str) -> str:
    joined = "|".join(alternative.replace(" ", _SPACE) for alternative in alternatives)
    return rf"\b(?:{joined})\b"


_PATTERNS: tuple[tuple[str, str], ...] = (
    (
        "quoted",
        r'"[^"\n]{1,40}"|“[^”\n]{1,40}”|«[^»\n]{1,40}»|\u2018[^\u2019\n]{1,40}\u2019|(?<!\w)\'[^\'\n]{1,40}\'(?!\w)',
    ),
    ("lettering", r"\b(?:words?|text|letters|saying|says|reads|reading)\s+(?-i:[A-Z][A-Z0-9]{1,19})\b"),
    ("spelled", r"\b[A-Za-z0-9](?:-[A-Za-z0-9])+(?![\w-])"),
    ("important", _phrase("important(?:ly)?", "make sure(?: that)?", "ensure", "must", "crucially?")),
    ("again", _phrase("again", "remember", "once more")),
    ("exactly", _phrase("exactly", "precisely", "only")),
    ("left of", _phrase("(?:to|on|at) the left(?: side)? of", "left of")),
    ("right of", _phrase("(?:to|on|at) the right(?: side)? of", "right of")),
    ("inside!", _phrase("in the (?:very )?(?:middle|centre|center) of(?= an?| the| one)")),
    ("on!", _phrase("(?:at|on) the (?:very )?top of(?= an?| the| one)")),
    ("place", rf"\b(?:at|in|on|near|towards?)\s+the\s+(?:very\s+)?{_SIDE}(?:\s+(?:half|side|part|edge))?\b"),
    ("on", _phrase("on top of", "atop", "on to", "onto", "on")),
    ("above", _phrase("above", "over")),
    ("below", _phrase("below", "beneath", "underneath", "under")),
    ("inside", _phrase("inside of", "inside", "within", "in")),
    ("contains", _phrase("contain(?:s|ing)?", "enclos(?:es|ing)", "around", "surround(?:s|ing)")),
    ("word", r"[A-Za-z]+(?:['\u2019](?:s|t))?|\d+"),
    ("end", r"[.!?;\n]"),
    ("pause", r"[,:()\[\]\u2013\u2014]"),
)
_GROUP_NAMES = {f"k{index}": name for index, (name, _) in enumerate(_PATTERNS)}
_TOKEN = re.compile(
    "|".join(f"(?P<k{i}>{pattern})" for i, (_, pattern) in enumerate(_PATTERNS)), re.IGNORECASE
)
_RELATIONS = frozenset(
    {"left of", "right of", "inside", "inside!", "on", "on!", "above", "below", "contains"}
)
_PAUSES = frozenset({"and", "but", "with", "while", "plus", "then", "also", "that", "which", "where"})
_DEFINITE = frozenset({"the", "all", "both", "each", "every", "these", "those", "this", "any"})
_PRONOUNS = frozenset({"it", "them", "they"})


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a kind such as `adjective`, `shape` or `relation`; `value` is its canonical word."""

    kind: str
    value: str
    raw: str


def tokenize(text: str) -> list[Token]:
    """Return all tokens of `text` and a final `end`."""
    return [*(token for token, _, _ in locate_tokens(text)), Token("end", "", "")]


def locate_tokens(text: str) -> list[tuple[Token, int, int]]:
    """Return all tokens of `text` with start and end."""
    found = _TOKEN.finditer(text[:MAX_CHARACTERS])
    return [(_make_token(match), match.start(), match.end()) for match in found]


def _make_token(match: re.Match[str]) -> Token:
    kind = _GROUP_NAMES[match.lastgroup or ""]
    raw = match.group()
    if kind == "quoted":
        return Token("quoted", raw[1:-1].strip(), raw)
    if kind == "lettering":
        # Some clients strip quotation marks from prompts; capitals still identify the word.
        return Token("quoted", raw.split()[-1], raw)
    if kind in _RELATIONS:
        return Token("relation", kind, raw)
    return _make_word_token(raw) if kind == "word" else Token(kind, raw, raw)


def _make_word_token(raw: str) -> Token:
    word = raw.lower()
    if word in words.SHAPE_WORDS and word != "plus":
        return Token("shape", word, raw)
    if word in words.ADJECTIVES:
        return Token("adjective", word, raw)
    if word in words.COUNT_WORDS or word.isdigit():
        return Token("count", word, raw)
    if word in ("background", "backdrop"):
        return Token("background", word, raw)
    for kind, members in (("pause", _PAUSES), ("definite", _DEFINITE), ("pronoun", _PRONOUNS)):
        if word in members:
            return Token(kind, word, raw)
    return Token("article" if word in ("a", "an") else "other", word, raw)
