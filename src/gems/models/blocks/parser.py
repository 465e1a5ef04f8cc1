"""Parse a text into mentions of things and their relations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from gems.models.blocks import vocabulary as words

MAX_CHARACTERS = 8000
"""Longer prompts are truncated, which bounds the parser's time."""
_SIDE = r"(?:top|bottom|left|right|upper|lower)"
_SPACE = r"\s+"
_RELATIONS = frozenset({"left of", "right of", "inside", "inside!", "on", "on!", "above", "below", "contains"})
_PAUSES = frozenset({"and", "but", "with", "while", "plus", "then", "also", "that", "which", "where"})
_DEFINITE = frozenset({"the", "all", "both", "each", "every", "these", "those", "this", "any"})
_PRONOUNS = frozenset({"it", "them", "they"})
_VAGUE = """
    image picture photo photograph illustration drawing scene canvas row line group column grid word words
    text sign label letters caption banner style middle center centre side half top bottom left right corner
    set number total there is are be of each other exactly following first second third one ones same way
    shape shapes object objects color colour colors colours edge front user prompt arrangement composition
    above previous instruction instructions rules show shows
"""
_NOT_THINGS = frozenset(_VAGUE.split())
_JOINING = "is are be was were has have being looks appears should spelled spelt to in for next beside near by"
_COPULAS = frozenset(_JOINING.split())


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
_TOKEN = re.compile("|".join(f"(?P<k{i}>{pattern})" for i, (_, pattern) in enumerate(_PATTERNS)), re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a kind such as `adjective`, `shape` or `relation`; `value` is its canonical word."""

    kind: str
    value: str
    raw: str


def tokenize(text: str) -> list[Token]:
    """Return all tokens of `text` and a final `end`."""
    return [*map(_make_token, _TOKEN.finditer(text[:MAX_CHARACTERS])), Token("end", "", "")]


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


@dataclass(slots=True)
class Mention:
    """A noun (a shape, `text` or `background`) and its description.

    `predicate` are attributes after the noun (`the square is striped`); `count` is None for a plural without
    a number and `explicit` if it is a number and not an article; `definite` refers to an earlier mention;
    `modes` are wordings that stress it: `important`, `exactly`, `place`, `spelled`, `again`.
    """

    noun: str
    attributes: dict[str, str] = field(default_factory=dict)
    predicate: dict[str, str] = field(default_factory=dict)
    count: int | None = None
    explicit: bool = False
    definite: bool = False
    many: bool = False
    word: str = ""
    modes: set[str] = field(default_factory=set)
    sentence: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """`mentions[subject]` stands in `relation` to `mentions[target]`."""

    subject: int
    relation: str
    target: int
    modes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Reading:
    """Mentions in the order of the text, their relations, and phrases outside the vocabulary (`a cat`)."""

    mentions: Sequence[Mention]
    links: Sequence[Link]
    unknown: Sequence[str]


def parse_text(text: str) -> Reading:
    """Parse a prompt or a question; never fails, unknown text is left out."""
    reader = _Reader()
    stream = tokenize(text)
    for token, following in zip(stream, [*stream[1:], Token("end", "", "")], strict=True):
        reader.take(token, following)
    return Reading(reader.mentions, reader.links, tuple(dict.fromkeys(reader.unknown)))


@dataclass(slots=True)
class _Pending:
    """Words collected for the next noun."""

    attributes: dict[str, str] = field(default_factory=dict)
    count: int | None = None
    explicit: bool = False
    definite: bool = False
    opened: bool = False
    strange: list[str] = field(default_factory=list)


class _Reader:
    def __init__(self) -> None:
        self.mentions: list[Mention] = []
        self.links: list[Link] = []
        self.unknown: list[str] = []
        self._pending = _Pending()
        self._link: tuple[str, int | None] | None = None
        self._fronted: tuple[str, int] | None = None
        self._last: int | None = None
        self._paused = False
        self._sentence = 0
        self._modes: set[str] = set()
        self._exact = False

    def take(self, token: Token, following: Token) -> None:
        if token.kind == "pause":
            self._pause(following)
        else:
            getattr(self, f"_take_{token.kind}")(token)
            self._paused = False

    def _take_article(self, token: Token) -> None:
        self._open(token)
        self._pending.count = 1

    def _take_definite(self, token: Token) -> None:
        self._open(token)
        self._pending.definite = True

    def _open(self, token: Token) -> None:
        if not (self._pending.opened and not self._pending.attributes and not self._pending.strange):
            self._flush()
        self._pending.opened = True
        if not self._pending.definite:
            self._pending.strange = [token.raw.lower()]

    def _take_count(self, token: Token) -> None:
        pending, number = self._pending, words.COUNT_WORDS.get(token.value)
        # "no" and "without" precede another determiner or number; "a single" and "a pair" follow one.
        pending.count = int(token.value[:6]) if number is None else number
        pending.explicit = pending.opened = True
        if not pending.strange:
            pending.strange = [token.raw.lower()]

    def _take_adjective(self, token: Token) -> None:
        attribute, value = words.ADJECTIVES[token.value]
        self._pending.attributes.setdefault(attribute, value)

    def _take_other(self, token: Token) -> None:
        word = token.value.lower()
        if word in _COPULAS or (word.endswith("ing") and len(self._pending.strange) > 1):
            self._flush_strange()
        elif self._pending.opened:
            self._pending.strange.append(token.raw)

    def _take_shape(self, token: Token) -> None:
        shape, many = words.SHAPE_WORDS[token.value]
        pending = self._pending
        count = pending.count if pending.explicit or not many else None
        count = 1 if count is None and not many else count
        mention = Mention(shape, pending.attributes, count=count, many=many)
        mention.explicit, mention.definite = pending.explicit, pending.definite
        self._mention(mention)

    def _take_background(self, _: Token) -> None:
        self._link = self._fronted = None
        self._mention(Mention(words.BACKGROUND, self._pending.attributes, definite=self._pending.definite))

    def _take_quoted(self, token: Token) -> None:
        if token.value:
            self._mention(Mention(words.TEXT, count=1, word=token.value, definite=self._pending.definite))

    def _mention(self, mention: Mention) -> None:
        self._pending = _Pending()
        mention.sentence = self._sentence
        mention.modes = self._modes | ({"exactly"} if self._exact else set())
        self._exact = False
        self.mentions.append(mention)
        self._join(len(self.mentions) - 1)

    def _join(self, index: int) -> None:
        """Complete an open relation with the mention at `index`."""
        if self._link is not None:
            relation, subject = self._link
            self._link = None
            if subject is None:
                self._fronted = (relation, index)
            else:
                self._add_link(subject, relation, index)
        elif self._fronted is not None:
            relation, target = self._fronted
            self._fronted = None
            self._add_link(index, relation, target)
        self._last = index

    def _add_link(self, subject: int, relation: str, target: int) -> None:
        modes = self.mentions[subject].modes | ({"place"} if relation.endswith("!") else set())
        name = relation.rstrip("!")
        if name == "contains":
            subject, name, target = target, "inside", subject
        if subject != target:
            self.links.append(Link(subject, name, target, frozenset(modes)))

    def _take_pronoun(self, _: Token) -> None:
        self._flush()
        if self._link is not None and self._link[1] is not None:
            subject = self._link[1]
            others = [i for i, m in enumerate(self.mentions) if i != subject and m.noun != words.BACKGROUND]
            before = [i for i in others if i < subject] or others
            if before:
                last = self._last
                self._join(before[-1])
                self._last = last
            self._link = None
        elif self._last is not None:
            self.mentions[self._last].sentence = self._sentence

    def _take_relation(self, token: Token) -> None:
        self._flush()
        subject = self._current()
        in_sentence = [link for link in self.links if self.mentions[link.subject].sentence == self._sentence]
        if self._paused and in_sentence and subject in (in_sentence[-1].target, in_sentence[-1].subject):
            subject = in_sentence[-1].subject
        self._link = (token.value, subject)

    def _take_place(self, _: Token) -> None:
        self._flush()
        current = self._current()
        if current is not None:
            self.mentions[current].modes.add("place")

    def _take_spelled(self, _: Token) -> None:
        current = self._current()
        if current is not None and self.mentions[current].noun == words.TEXT:
            self.mentions[current].modes.add("spelled")

    def _take_important(self, token: Token) -> None:
        self._modes.add(token.kind)

    _take_again = _take_important

    def _take_exactly(self, _: Token) -> None:
        self._exact = True

    def _current(self) -> int | None:
        """Return the latest mention of this sentence."""
        if self._last is not None and self.mentions[self._last].sentence == self._sentence:
            return self._last
        return None

    def _pause(self, following: Token) -> None:
        if not (self._pending.attributes and following.kind in ("adjective", "shape", "background")):
            self._flush()
            self._link = None
            self._paused = True

    def _take_end(self, _: Token) -> None:
        self._flush()
        self._link = self._fronted = None
        self._exact = False
        self._modes = set()
        self._sentence += 1

    def _flush(self) -> None:
        """Assign pending adjectives to the previous noun and record unknown words."""
        current = self._current()
        if self._pending.attributes and current is not None:
            for attribute, value in self._pending.attributes.items():
                self.mentions[current].predicate.setdefault(attribute, value)
        self._flush_strange()
        self._pending = _Pending()

    def _flush_strange(self) -> None:
        determiner, *strange = self._pending.strange or [""]
        nouns = [word for word in strange if word.lower() not in _NOT_THINGS]
        if self._pending.opened and nouns:
            self.unknown.append(" ".join([determiner, *self._pending.attributes.values(), *nouns]))
        if strange:
            self._pending.strange = []
            self._pending.opened = False
