"""Parse a text into mentions of things and their relations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from gems.models.blocks import vocabulary as words

MAX_CHARACTERS = 8000
"""Longer prompts are truncated, which bounds the parser's time."""
_SIDE = r"(?:top|bottom|left|right|upper|lower|middle|cent(?:er|re))"
_SPACE = r"\s+"
_RELATIONS = frozenset({"left of", "right of", "inside", "inside!", "on", "on!", "above", "below", "contains"})
_PAUSES = frozenset({"and", "but", "with", "while", "plus", "then", "also", "that", "which", "where", "into"})
_DEFINITE = frozenset({"the", "all", "both", "each", "every", "these", "those", "this", "any"})
_PRONOUNS = frozenset({"it", "them", "they"})
_VAGUE = """
    image picture photo photograph illustration drawing scene canvas graphic group style
    set number total there is are be of each other exactly following one ones way
    color colour colors colours user prompt arrangement composition
    above previous instruction instructions rules show shows
"""
_REQUESTING = """
    please draw drawn paint painted create created generate generated make made render rendered produce give want
    would need could can you i me my us we let s give show showing shown shows depict depicts depicting display
    displays displaying feature features featuring include includes including add use using have has having
    image images picture pictures photos drawings illustrations there here exist exists present visible seen see appear
    placed located positioned arranged standing sitting lying filled coloured colored sized very quite just simple
    simply basic clearly altogether of at to for from by it its their some several or so does do did will
    least against question
    change recolor recolour repaint insert turn move
"""
_HARMLESS = frozenset((_VAGUE + _REQUESTING).split())
"""Words that ask for nothing that could be missing in the image."""
_GENERIC = frozenset({"shape", "shapes", "object", "objects", "thing", "things", "figure", "figures"})
_LETTERING = frozenset({"text", "texts", "word", "words", "letter", "letters", "lettering", "writing", "caption"})
_CARRIERS = _LETTERING | {"sign", "signs", "label", "labels", "banner", "banners"}
"""Things to be drawn, unless a text in quotation marks follows."""
_MORE = frozenset({"other", "others", "else", "more", "additional", "further", "extra"})
_JOINING = "is are be was were has have being looks appears should spelled spelt to in for"
_COPULAS = frozenset(_JOINING.split())
_NOTHING = "nothing"
_TRAILING = _HARMLESS | _COPULAS | _DEFINITE | {"a", "an"}
_NOT = r"(?:not|never|cannot|(?:do|does|did|is|are|was|must|should|ca|wo)n['\u2019]t)"
_NEGATED_VERB = re.compile(_NOT, re.IGNORECASE)
_TO_SHOW = r"(?:show|have|draw|add|use|be|include|depict|see)(?:s|ing)?"


def _phrase(*alternatives: str) -> str:
    joined = "|".join(alternative.replace(" ", _SPACE) for alternative in alternatives)
    return rf"\b(?:{joined})\b"


_UNCHANGED = "stays?|remains?|is|as|it|unchanged|the|same|changes"
_INTO = r"(?=[^.!?\n]{1,60}\b(?:in)?to\s+an?\b)"
_PATTERNS: tuple[tuple[str, str], ...] = (
    # Of an edit from one word to another only the new one is asked for.
    ("aside", r'(?:"[^"\n]{1,40}"|“[^”\n]{1,40}”)\s+(?:to|into|with|by)(?=\s+["“])'),
    ("aside", _phrase(rf"(?:keep |leave )?(?:everything|anything|all|nothing) else(?: (?:{_UNCHANGED}))+")),
    (
        "quoted",
        r'"[^"\n]{1,40}"|“[^”\n]{1,40}”|«[^»\n]{1,40}»|\u2018[^\u2019\n]{1,40}\u2019|(?<!\w)\'[^\'\n]{1,40}\'(?!\w)',
    ),
    (
        "lettering",
        r"\b(?:words?|text|letters|saying|says|reads|reading|write)(?:(?-i:\s+[A-Z][A-Z0-9]{1,19})?\s+(?:in)?to)?\s+(?-i:[A-Z][A-Z0-9]{1,19})\b",
    ),
    ("spelled", r"\b[A-Za-z0-9](?:-[A-Za-z0-9])+(?![\w-])"),
    ("exactly", _phrase("nothing (?:but|except|other than)")),
    ("aside", _phrase("not (?:only|just|merely)", "would like", "(?:i|we)['\u2019]d like")),
    (
        "negation",
        rf"\b(?:without|(?:free|devoid|empty)\s+(?:of|from)|avoid(?:ing)?|exclud(?:e|es|ing)|omit(?:s|ting)?|lack(?:s|ing)?"
        rf"|remov(?:e|es|ing)|delet(?:e|es|ing)|eras(?:e|es|ing)|get(?:ting)?\s+rid\s+of|replac(?:e|es|ing)"
        rf"|(?:turn|change|convert|transform){_INTO}"
        rf"|absence\s+of|neither|nor|none\s+of|no|{_NOT}(?:\s+{_TO_SHOW})*)\b(?!-)",
    ),
    (
        "beside",
        _phrase("next to", "beside", "near", "between", "behind", "in front of", "touching", "overlapping")
        + "|"
        + _phrase("(?:made|built|composed|formed|consisting)(?: up| out)?(?: of| from)", "full of", "each side of")
        + f"|{_phrase('filled with')}(?!\\s+(?:{'|'.join(words.COLOURS)})\\b)",
    ),
    ("important", _phrase("important(?:ly)?", "make sure(?: that)?", "ensure", "must", "crucially?")),
    ("again", _phrase("again", "remember", "once more")),
    ("exactly", _phrase("exactly", "precisely", "only")),
    ("left of", _phrase("(?:to|on|at) the left(?: side)? of", "left of")),
    ("right of", _phrase("(?:to|on|at) the right(?: side)? of", "right of")),
    (
        "inside!",
        _phrase("in the (?:very )?(?:middle|centre|center) of(?= an?| the| one)(?! the (?:image|picture|canvas))"),
    ),
    ("on!", _phrase("(?:at|on) the (?:very )?top of(?= an?| the| one)")),
    (
        "place",
        rf"\b(?:at|in|on|near|towards?)\s+the\s+(?:very\s+)?{_SIDE}(?:[ -]+(?:{_SIDE}|half|side|part|edge|corner))*\b",
    ),
    ("on", _phrase("on top of", "atop", "on to", "onto", "on")),
    ("above", _phrase("above", "over")),
    ("below", _phrase("below", "beneath", "underneath", "under")),
    ("inside", _phrase("inside of", "inside", "within", "in")),
    ("contains", _phrase("contain(?:s|ing)?", "enclos(?:es|ing)", "around", "surround(?:s|ing)")),
    ("part", r"-\d+\b|\d+(?:[.,/:]\d+)+"),
    ("word", r"[^\W\d_]+(?:['\u2019](?:s|t|d|m|re|ll|ve))?|\d+"),
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
    if word in words.COUNT_WORDS or (word.isascii() and word.isdigit()):
        return Token("count", word, raw)
    if word in ("background", "backdrop"):
        return Token("background", word, raw)
    for kind, members in (("pause", _PAUSES), ("definite", _DEFINITE), ("pronoun", _PRONOUNS)):
        if word in members:
            return Token(kind, word, raw)
    if word in ("a", "an", "another"):
        return Token("article", word, raw)
    return Token(word if word in ("or", _NOTHING) else "other", word, raw)


@dataclass(slots=True)
class Mention:
    """A noun (a shape, `text`, `background`, or any shape) and its description.

    `predicate` are attributes after the noun (`the square is striped`); `count` is None for a plural without
    a number, 0 for a negation, and `explicit` if it is a number and not an article; `definite` refers to an
    earlier mention; `modes` are wordings that stress it: `important`, `exactly`, `place`, `spelled`, `again`.
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
    """Mentions in the order of the text, their relations, and what is outside the vocabulary.

    `unknown` are phrases such as `a cat` and `not red`; `places` are mentions with a place in the image, such as
    `at the top`, which is understood only as a stress on a relation.
    """

    mentions: Sequence[Mention]
    links: Sequence[Link]
    unknown: Sequence[str]
    places: Sequence[tuple[int, str]]


def parse_text(text: str) -> Reading:
    """Parse a prompt or a question; never fails, unknown text is left out."""
    reader = _Reader()
    stream = tokenize(text)
    for token, following in zip(stream, [*stream[1:], Token("end", "", "")], strict=True):
        reader.take(token, following)
    if len(text) > MAX_CHARACTERS:
        reader.unknown.append(f"what follows the first {MAX_CHARACTERS:,} characters")
    return Reading(reader.mentions, reader.links, tuple(dict.fromkeys(reader.unknown)), tuple(reader.places))


@dataclass(slots=True)
class _Pending:
    """Words collected for the next noun."""

    attributes: dict[str, str] = field(default_factory=dict)
    count: int | None = None
    explicit: bool = False
    definite: bool = False
    negated: bool = False
    opened: bool = False
    generic: bool = False
    unread: bool = False
    words: list[str] = field(default_factory=list)

    @property
    def is_bare_negation(self) -> bool:
        """Whether nothing has followed a negation yet."""
        return self.negated and len(self.words) == 1

    def phrase(self) -> str:
        """Return the words without trailing ones that mean nothing; empty for articles alone."""
        kept = list(self.words)
        while kept and kept[-1].lower() in _TRAILING:
            kept.pop()
        # Of `two colours` and `no image` the noun is what is asked for.
        return " ".join(kept if len(kept) != 1 or not self.explicit else self.words).removesuffix(" of")


class _Reader:
    def __init__(self) -> None:
        self.mentions: list[Mention] = []
        self.links: list[Link] = []
        self.unknown: list[str] = []
        self.places: list[tuple[int, str]] = []
        self._pending = _Pending()
        self._link: tuple[str, int | None] | None = None
        self._fronted: tuple[str, int] | None = None
        self._last: int | None = None
        self._paused = False
        self._sentence = 0
        self._modes: set[str] = set()
        self._exact = False
        self._clause: list[str] = []
        self._is_clause_unread = False
        self._unknown_before = 0
        self._negating = False
        self._skips_next = False

    def take(self, token: Token, following: Token) -> None:
        self._clause.append(token.raw)
        if token.kind == "pause":
            self._pause(token, following)
        else:
            getattr(self, f"_take_{token.kind}")(token)
            self._paused = False

    def _take_article(self, token: Token) -> None:
        if not self._pending.is_bare_negation:
            self._open(token)
            self._pending.count = 1

    def _take_definite(self, token: Token) -> None:
        if not self._pending.is_bare_negation:
            self._open(token)
            self._pending.definite = True

    def _open(self, token: Token) -> None:
        if self._pending.attributes or self._pending.unread or not self._pending.opened or self._pending.negated:
            self._flush()
        self._negating = False
        self._pending.opened = True
        self._pending.words.append(token.raw)

    def _take_negation(self, token: Token) -> None:
        self._flush()
        self._negate("not" if _NEGATED_VERB.match(token.raw) else "no")

    def _take_nothing(self, token: Token) -> None:
        self._flush()
        self._negate()
        self._pending.words = [token.raw]
        self._pending.generic = True

    def _negate(self, word: str = "no") -> None:
        """Begin a noun phrase of which the image must show none."""
        self._pending = _Pending(count=0, explicit=True, negated=True, opened=True, words=[word])
        self._negating = True

    def _take_or(self, token: Token) -> None:
        if self._negating:
            self._flush()
            self._negate()
        else:
            self._take_other(token)

    def _take_count(self, token: Token) -> None:
        pending, number = self._pending, words.COUNT_WORDS.get(token.value)
        if pending.is_bare_negation and number == 1:
            return  # not one circle
        # "a single" and "a pair" follow another determiner.
        pending.unread = pending.unread or pending.negated
        pending.count = int(token.value[:6]) if number is None else number
        pending.explicit = pending.opened = True
        pending.words.append(token.raw)

    def _take_adjective(self, token: Token) -> None:
        attribute, value = words.ADJECTIVES[token.value]
        pending = self._pending
        if not (pending.words and pending.words[-1].lower() == "non"):
            # A red and blue circle would be drawn in one colour.
            pending.unread |= pending.attributes.setdefault(attribute, value) != value
        pending.words.append(token.raw)

    def _take_other(self, token: Token) -> None:
        word, pending = re.split("['\u2019]", token.value)[0], self._pending
        if pending.negated and not pending.unread and word in _GENERIC | _LETTERING | {"anything"}:
            noun = words.TEXT if word in _LETTERING else words.ANYTHING
            self._mention(Mention(noun, pending.attributes, count=0, explicit=True, many=True))
        elif word in _COPULAS:
            if pending.unread:
                self._flush()
        elif pending.negated and word in _MORE:
            pending.unread = True
            pending.words.append(token.raw)
        elif word in _HARMLESS | _GENERIC | _CARRIERS:
            pending.generic = pending.generic or word in _GENERIC | _CARRIERS
            pending.opened = pending.opened or word in _CARRIERS
            if pending.words or word in _CARRIERS:
                pending.words.append(token.raw)
        else:
            pending.unread = True
            pending.words.append(token.raw)

    _take_part = _take_other
    """Fractions and the like."""

    def _take_shape(self, token: Token) -> None:
        shape, many = words.SHAPE_WORDS[token.value]
        pending = self._pending
        before = pending.words[-1] if pending.unread else ""
        is_name = token.raw.istitle() and before.istitle() and before.lower() not in words.ADJECTIVES
        if is_name or (pending.unread and pending.negated):
            # Times Square; no fluffy circles
            pending.words.append(token.raw)
            pending.unread = True
            return
        if pending.unread:
            self.unknown.append(" ".join([*pending.words, token.raw]))
        count = pending.count if pending.explicit or not many else None
        count = 1 if count is None and not many else count
        mention = Mention(shape, pending.attributes, count=count, many=many)
        mention.explicit, mention.definite = pending.explicit, pending.definite
        self._mention(mention)

    def _take_background(self, token: Token) -> None:
        self._link = self._fronted = None
        pending = self._pending
        if pending.unread or pending.negated:
            self.unknown.append(" ".join([*pending.words, token.raw]))
        if pending.negated:
            self._pending = _Pending()
        else:
            self._mention(Mention(words.BACKGROUND, pending.attributes, definite=pending.definite))

    def _take_quoted(self, token: Token) -> None:
        last = self.mentions[self._last] if self._last is not None else None
        if last is not None and last.noun == words.TEXT and not last.word and not self._pending.words:
            last.word = token.value  # without the word "GO"
        elif token.value:
            count = 0 if self._pending.negated else 1
            definite = self._pending.definite
            if self._pending.unread or self._pending.attributes or (self._pending.count or 0) > 1:
                self.unknown.append(" ".join([*self._pending.words, token.raw]))
            self._mention(Mention(words.TEXT, count=count, explicit=not count, word=token.value, definite=definite))

    def _mention(self, mention: Mention) -> None:
        self._pending = _Pending()
        if self._skips_next:
            self._skips_next = False
            return
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
            self._relate_to_previous(self._link[1])
        elif self._last is not None:
            self.mentions[self._last].sentence = self._sentence

    def _relate_to_previous(self, subject: int) -> None:
        others = [i for i, m in enumerate(self.mentions) if i != subject and m.noun != words.BACKGROUND]
        before = [i for i in others if i < subject] or others
        if before:
            last = self._last
            self._join(before[-1])
            self._last = last
        self._link = None

    def _take_relation(self, token: Token) -> None:
        subject = self._current()
        if self._pending.is_bare_negation and subject is not None:
            # A circle that is not inside the square; a square that does not contain a circle.
            self._pending = _Pending()
            self._negating = False
            self._skips_next = token.value == "contains"
            self._is_clause_unread = True
            return
        if self._pending.is_bare_negation and token.value == "contains":
            return  # an image that does not contain circles
        self._flush()
        subject = self._current()
        in_sentence = [link for link in self.links if self.mentions[link.subject].sentence == self._sentence]
        if self._paused and in_sentence and subject in (in_sentence[-1].target, in_sentence[-1].subject):
            subject = in_sentence[-1].subject
        self._link = (token.value, subject)

    def _take_place(self, token: Token) -> None:
        self._flush()
        current = self._current()
        self.places.append((len(self.mentions) if current is None else current, token.raw))
        if current is not None:
            self.mentions[current].modes.add("place")

    def _take_beside(self, _: Token) -> None:
        self._flush()
        self._is_clause_unread = True

    def _take_aside(self, _: Token) -> None:
        """Ignore words that change nothing."""

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

    def _pause(self, token: Token, following: Token) -> None:
        if self._pending.attributes and following.kind in ("adjective", "shape", "background"):
            self._pending.words.append(token.raw)
            return
        self._flush()
        self._close_negated_link()
        self._link = None
        self._paused = True
        if token.value != "and" and token.raw != ",":
            self._negating = False
        elif self._negating and following.kind in ("adjective", "shape"):
            self._negate()  # no circles and squares

    def _close_negated_link(self) -> None:
        """Relate what is negated to what was named before: a square without a circle inside."""
        if self._link is not None and self._link[1] is not None and self.mentions[self._link[1]].count == 0:
            self._relate_to_previous(self._link[1])

    def _take_end(self, _: Token) -> None:
        self._flush()
        self._close_negated_link()
        # A relation to nothing is lost, unless that is told.
        if self._is_clause_unread or (self._link is not None and self._unknown_before == len(self.unknown)):
            self.unknown.append(" ".join(self._clause[:-1]))
        self._clause, self._is_clause_unread = [], False
        self._link = self._fronted = None
        self._negating = self._skips_next = self._exact = False
        self._modes = set()
        self._sentence += 1
        self._unknown_before = len(self.unknown)

    def _flush(self) -> None:
        """Assign pending adjectives to the previous noun, and record what is not understood."""
        pending, self._pending = self._pending, _Pending()
        current = self._current()
        dangles = (pending.attributes or pending.explicit) and pending.count is not None and not pending.negated
        # Without any colour, not an illustration.
        denies = pending.negated and (pending.attributes or len(pending.phrase().split()) > 1)
        has_thing = pending.generic and not pending.definite and (pending.opened or pending.attributes)
        if pending.negated and pending.generic and pending.attributes and not pending.unread:
            # nothing red
            self._mention(Mention(words.ANYTHING, pending.attributes, count=0, explicit=True, many=True))
        elif pending.unread or has_thing or dangles or denies:
            if phrase := pending.phrase():
                self.unknown.append(phrase)
        elif pending.attributes and current is not None and self.mentions[current].noun == words.TEXT:
            self.unknown.append(f"{self.mentions[current].word} {pending.phrase()}")
        elif pending.attributes and current is not None:
            said = self.mentions[current]
            for attribute, value in pending.attributes.items():
                known = said.attributes.get(attribute) or said.predicate.setdefault(attribute, value)
                if known != value:
                    self.unknown.append(f"{known} and {value}")
