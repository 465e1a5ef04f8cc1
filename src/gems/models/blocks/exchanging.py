"""Exchanging the words of a prompt that speak against a question: another count, colour, place or text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from gems.models.blocks import vocabulary as words
from gems.models.blocks.lexing import Token, located
from gems.models.blocks.parser import Mention, read
from gems.models.blocks.questions import quoted

_MOST = 24
"""Proposals for one question: each is read and judged before it is taken."""
_Edit = tuple[tuple[int, int, str], ...]
"""Start, end and new words of each place that changes."""
_Spans = list[tuple[Token, int, int]]


def exchanges(prompt: str, question: str) -> Iterator[str]:
    """Prompts with one wording exchanged for what a question asks, everywhere first, then in one place.

    Most of them are wrong: which one says what the question asks is found by reading it.
    """
    yield from islice(_proposals(prompt, question), _MOST)


def _proposals(prompt: str, question: str) -> Iterator[str]:
    spans, reading = located(prompt), read(question)
    found: dict[tuple[str, str], list[_Edit]] = {}
    for mention in reading.mentions:
        for said, edit in _of_mention(spans, mention):
            found.setdefault(said, []).append(edit)
    for link in reading.links:
        for said, edit in _of_relation(spans, link.relation):
            found.setdefault(said, []).append(edit)
    for edits in found.values():
        if len(edits) > 1:
            yield _edited(prompt, tuple(change for edit in edits for change in edit))
        for edit in edits:
            yield _edited(prompt, edit)


def _of_mention(spans: _Spans, mention: Mention) -> Iterator[tuple[tuple[str, str], _Edit]]:
    """Edits by what was said and what is to be said."""
    said = {**mention.predicate, **mention.attributes}
    for place, (token, start, end) in enumerate(spans):
        if token.kind == "adjective":
            name, value = words.ADJECTIVES[token.value]
            if said.get(name, value) != value:
                yield (token.value, said[name]), _adjective(spans, place, said[name])
        elif token.kind == "quoted" and mention.word and token.value != mention.word:
            yield (token.raw, mention.word), ((start, end, quoted(mention.word)),)
        elif token.kind in ("count", "article") and mention.noun in words.SHAPES and mention.count:
            edit = _counted(spans, place, mention)
            if edit:
                yield (f"{token.value} {mention.noun}", str(mention.count)), edit


def _adjective(spans: _Spans, place: int, wanted: str) -> _Edit:
    _, start, end = spans[place]
    before, *_ = spans[place - 1] if place else (Token("end", "", ""), 0, 0)
    if before.kind != "article":
        return ((start, end, wanted),)
    return ((spans[place - 1][1], end, _cased(before.raw, words.with_article(wanted))),)


def _counted(spans: _Spans, place: int, mention: Mention) -> _Edit:
    """The number before a noun and the noun's own form; empty where another noun or nothing follows."""
    token, start, end = spans[place]
    for following, noun_start, noun_end in spans[place + 1 :]:
        if following.kind == "shape":
            shape, _ = words.SHAPE_WORDS[following.value]
            if shape != mention.noun or mention.count is None:
                return ()
            one = mention.count == 1
            number = words.number_word(mention.count) if mention.explicit or not one else "one"
            noun = shape if one else words.plural(shape)
            return (start, end, _cased(token.raw, number)), (noun_start, noun_end, noun)
        if following.kind not in ("adjective", "other", "pause"):
            return ()
    return ()


def _of_relation(spans: _Spans, relation: str) -> Iterator[tuple[tuple[str, str], _Edit]]:
    for token, start, end in spans:
        if token.kind == "relation":
            for wanted in (relation, words.INVERSE.get(relation)):
                if wanted and wanted != token.value:
                    yield (token.raw.lower(), wanted), ((start, end, wanted),)


def _edited(prompt: str, edit: _Edit) -> str:
    for start, end, text in sorted(edit, reverse=True):
        prompt = prompt[:start] + text + prompt[end:]
    return prompt


def _cased(old: str, new: str) -> str:
    return f"{new[:1].upper()}{new[1:]}" if old[:1].isupper() else new
