"""Replace words of a prompt that contradict a question: another count, colour, relation or text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from gems.models.blocks import vocabulary as words
from gems.models.blocks.lexing import Token, locate_tokens
from gems.models.blocks.parser import Mention, parse_text
from gems.models.blocks.prompt_spec import quoted

_MAX_EXCHANGES = 24
"""Most proposals per question: each is parsed and checked."""
_Edit = tuple[tuple[int, int, str], ...]
"""Start, end and new text of each change."""
_Spans = list[tuple[Token, int, int]]


def propose_exchanges(prompt: str, question: str) -> Iterator[str]:
    """Yield prompts with one wording replaced to match a question, everywhere first, then once.

    Most are wrong: the caller checks each by parsing it.
    """
    yield from islice(_iterate_exchanges(prompt, question), _MAX_EXCHANGES)


def _iterate_exchanges(prompt: str, question: str) -> Iterator[str]:
    spans, reading = locate_tokens(prompt), parse_text(question)
    found: dict[tuple[str, str], list[_Edit]] = {}
    for mention in reading.mentions:
        for said, edit in _edit_mention(spans, mention):
            found.setdefault(said, []).append(edit)
    for link in reading.links:
        for said, edit in _edit_relation(spans, link.relation):
            found.setdefault(said, []).append(edit)
    for edits in found.values():
        if len(edits) > 1:
            yield _apply_edit(prompt, tuple(change for edit in edits for change in edit))
        for edit in edits:
            yield _apply_edit(prompt, edit)


def _edit_mention(spans: _Spans, mention: Mention) -> Iterator[tuple[tuple[str, str], _Edit]]:
    """Yield edits, keyed by old and new wording."""
    said = {**mention.predicate, **mention.attributes}
    for place, (token, start, end) in enumerate(spans):
        if token.kind == "adjective":
            name, value = words.ADJECTIVES[token.value]
            if said.get(name, value) != value:
                yield (token.value, said[name]), _edit_adjective(spans, place, said[name])
        elif token.kind == "quoted" and mention.word and token.value != mention.word:
            yield (token.raw, mention.word), ((start, end, quoted(mention.word)),)
        elif token.kind in ("count", "article") and mention.noun in words.SHAPES and mention.count:
            edit = _edit_count(spans, place, mention)
            if edit:
                yield (f"{token.value} {mention.noun}", str(mention.count)), edit


def _edit_adjective(spans: _Spans, place: int, wanted: str) -> _Edit:
    _, start, end = spans[place]
    before, *_ = spans[place - 1] if place else (Token("end", "", ""), 0, 0)
    if before.kind != "article":
        return ((start, end, wanted),)
    return ((spans[place - 1][1], end, _match_case(before.raw, words.with_article(wanted))),)


def _edit_count(spans: _Spans, place: int, mention: Mention) -> _Edit:
    """Replace a number and the noun after it; empty if another noun or none follows."""
    token, start, end = spans[place]
    for following, noun_start, noun_end in spans[place + 1 :]:
        if following.kind == "shape":
            shape, _ = words.SHAPE_WORDS[following.value]
            if shape != mention.noun or mention.count is None:
                return ()
            one = mention.count == 1
            number = words.number_word(mention.count) if mention.explicit or not one else "one"
            noun = shape if one else words.plural(shape)
            return (start, end, _match_case(token.raw, number)), (noun_start, noun_end, noun)
        if following.kind not in ("adjective", "other", "pause"):
            return ()
    return ()


def _edit_relation(spans: _Spans, relation: str) -> Iterator[tuple[tuple[str, str], _Edit]]:
    for token, start, end in spans:
        if token.kind == "relation":
            for wanted in (relation, words.INVERSE.get(relation)):
                if wanted and wanted != token.value:
                    yield (token.raw.lower(), wanted), ((start, end, wanted),)


def _apply_edit(prompt: str, edit: _Edit) -> str:
    for start, end, text in sorted(edit, reverse=True):
        prompt = prompt[:start] + text + prompt[end:]
    return prompt


def _match_case(old: str, new: str) -> str:
    return f"{new[:1].upper()}{new[1:]}" if old[:1].isupper() else new
