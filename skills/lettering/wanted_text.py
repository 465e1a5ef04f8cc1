"""Find texts that a prompt names without quotation marks, which some clients strip."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gems.skills.lettering.chinese import find_chinese
from gems.skills.lettering.found import BLANK, NamedText
from gems.skills.lettering.phrases import (
    STOP_WORDS,
    TITLE_WORDS,
    find_phrase,
    is_capitals,
    is_loud,
    words_from,
)
from gems.skills.lettering.quotes import MAX_SENTENCE

_ADVERBS = r"(?:clearly|simply|just|only|boldly|proudly|out|loudly|prominently|with)"
_HOW = r"(?:\s+in\s+(?:[a-z-]+\s+){0,4}(?:letters|capitals|font|type|script|lettering|handwriting|neon))?"
_GAP = rf"(?:\s+(?:is|are))?(?:\s+{_ADVERBS})*{_HOW}\s*[:,]?\s*"
_KINDS = {
    "noun": r"(?:words?|text|phrase|slogan|tagline|motto|caption|headline|heading|inscription|wording|message"
    r"|title|name|quote|greeting)",
    "letters": r"(?:letters?|initials?|lettering|acronym)",
    "number": r"(?:numbers?|numerals?|digits?)",
    "says": r"(?:says?|saying|spell(?:s|ing)?|spelled|states?|stating|announc(?:es|ing)|proclaim(?:s|ing)"
    r"|declar(?:es|ing)|writes?)",
    "reads": r"(?:reads?|reading)",
    "labelled": r"(?:label+ed|titled|entitled|captioned|inscribed|headed|subtitled|headlined)",
    "marked": r"(?:marked|stamped|engraved|embroidered|emblazoned|printed|lettered|tagged|branded|signed)",
}
_CUES = re.compile(
    r"\b(?:" + "|".join(f"(?P<{kind}>{words})" for kind, words in _KINDS.items()) + rf")\b(?![-'’]){_GAP}",
    re.IGNORECASE,
)
_BEARER = (
    r"(?:neon sign|sign(?:post|board|age)?s?|banners?|posters?|billboards?|placards?|plaques?|labels?"
    r"|stickers?|logos?|badges?|tags?|buttons?|headlines?|captions?|text|letters|lettering|words|bubbles?|boards?"
    r"|blackboards?|chalkboards?|whiteboards?|t-?shirts?|shirts?|jerseys?|hood(?:ie|y)|caps?|mugs?|cups?|cakes?|plates?|doors?"
    r"|walls?|screens?|displays?|notes?|cards?|flags?|tickets?|flyers?|covers?|jars?|bottles?|box(?:es)?|bags?|cans?"
    r"|stones?|gravestones?|tombstones?|mats?|doormats?|menus?|notices?|clocks?|graffiti|tattoos?|paper|scrolls?"
    r"|ribbons?|keychains?|monitors?|tiles?|awnings?|titles?|slogans?|it|and)"
)
_BEARERS = re.compile(rf"\b{_BEARER}\b", re.IGNORECASE)
_PEOPLE = re.compile(
    r"\b(?:wom[ae]n|m[ae]n|boys?|girls?|child(?:ren)?|kids?|persons?|people|students?|teachers?|mother|father|he"
    r"|she|they|cats?|dogs?|robots?|couples?|ladys?|ladies|guys?|monks?|wizards?|readers?|someone|grandmother"
    r"|grandfather|bears?|owls?|crowd|king|queen|knight|bab(?:y|ies)|tourists?|commuters?|scholars?|nurses?)\b",
    re.IGNORECASE,
)
_CAPITALS_CUE = re.compile(
    r"\b(?:sign|banner|poster|billboard|placard|plaque|label|sticker|logo|button|headline|slogan|caption)s?"
    r"[: ]\s*(?=[A-Z0-9])"
)
_WRITTEN_VERB = re.compile(
    r"\s(?:is |are )?(?:boldly |clearly |neatly )?(?P<verb>written|spelled|lettered|inscribed|engraved"
    r"|painted|printed|embroidered|carved|stamped|stitched)\s(?:out\s)?(?:on|in|across|above|below|along|over|at|upon|with)\b"
)
_NOT_BEHIND_A_NOUN = frozenset(
    {"cloud", "art", "game", "search", "processor", "count", "box", "editor", "page", "bar"}
    | {"card", "sequence", "of", "for", "to", "bubble", "bubbles", "overlay", "field", "size"}
    | {"color", "colour", "style", "font", "effect", "opener", "writer", "paper", "block", "blocks"}
    | {"tag", "plate", "tags", "plates", "line", "lines", "the", "a", "an", "reads"}
    | {"says", "reading", "saying", "only", "exactly", "here", "anywhere", "this", "not", "logo"}
    | {"message", "messages", "elements", "layout", "placement", "should", "you", "i", "we", "one"}
    | {"two"}
)
"""Continuations of the sentence: a text message, the words of the poem."""
_ARTICLES = frozenset({"a", "an", "the", "his", "her", "their", "its", "my", "your", "this", "that"})
_IS = re.compile(r"\s(?:is|are)\b", re.IGNORECASE)
"""Distinguishes "the title is Dune" from "the title is red"."""
_LIST = re.compile(r"\s*(?:,\s*and|,\s*or|,|and|or|&)\s+", re.IGNORECASE)
_NEGATED_TEXT = re.compile(
    r"\b(?:without|no|not|never|avoid|instead of|rather than|don'?t)\b[^.;,!?\n]{0,25}$", re.I
)


def find_unquoted(prompt: str, *, capitals_only: bool) -> list[NamedText]:
    """Return the texts that a prompt names.

    `prompt` has `BLANK` in place of quoted text. With `capitals_only`, only texts in capital letters count.
    """
    found = [*_find_after_cues(prompt), *_find_before_verbs(prompt), *_find_capitals(prompt)]
    if capitals_only:
        found = [one for one in found if is_loud(one.text.split())]
    found += find_chinese(prompt)
    kept: list[NamedText] = []
    for one in sorted(found, key=lambda one: (one.start, -len(one.text))):
        inside = any(other.start <= one.start < other.start + len(other.text) for other in kept)
        if not inside and not _NEGATED_TEXT.search(prompt[: one.start]):
            kept.append(one)
    return kept


def _find_after_cues(prompt: str) -> Iterator[NamedText]:
    for cue in _CUES.finditer(prompt):
        words = words_from(prompt, cue.end())
        kind = cue.lastgroup or ""
        if not words or BLANK in prompt[cue.end() : cue.end() + 2] or _CUES.match(prompt, cue.end()):
            continue
        text = find_phrase(
            words,
            announced=":" in cue[0],
            single=cue[0].strip(" :,").lower() in {"word", "name", "letter", "number"},
        )
        if text and _is_text(kind, cue, text, prompt):
            yield from _expand_list(prompt, cue.end(), text)


def _is_text(kind: str, cue: re.Match[str], text: list[str], prompt: str) -> bool:
    """Return whether the words after a cue are a text and not the rest of a sentence."""
    first = text[0].casefold()
    before = prompt[max(0, cue.start() - MAX_SENTENCE) : cue.start()].split()
    colon = ":" in cue[0]
    loud = is_loud(text)
    if _IS.search(cue[0]) and text[0][0].islower():
        return False
    if kind == "noun":
        title = len(text) > 1 and all(word[0].isupper() for word in (text[0], text[-1]))
        return loud or colon or title or first not in STOP_WORDS | _NOT_BEHIND_A_NOUN
    if kind == "letters":
        return all(map(is_capitals, text)) or (colon and len(text[0]) <= 3)
    if kind == "number":
        return text[0][0].isdigit() and (
            not before or before[-1].casefold() not in {"a", "any", "large", "small"}
        )
    if kind == "marked":
        return all(map(is_capitals, text))
    if kind == "labelled":
        return not (before and before[-1].casefold() in _ARTICLES) and first not in STOP_WORDS - {"in", "is"}
    return loud or _is_said(kind, cue, text, prompt)


def _is_said(kind: str, cue: re.Match[str], text: list[str], prompt: str) -> bool:
    """Return whether an object says or reads the text, and not a person who speaks or reads a book."""
    clause = re.split(r"[.;!?\n]", prompt[max(0, cue.start() - MAX_SENTENCE) : cue.start()])[-1]
    bearers, people = list(_BEARERS.finditer(clause)), list(_PEOPLE.finditer(clause))
    if text[0].casefold() in STOP_WORDS or text == ["nothing"]:
        return False
    if bearers and (not people or bearers[-1].start() > people[-1].start()):
        return True
    return kind == "says" and not people and text[0].casefold() not in _ARTICLES


def _expand_list(prompt: str, start: int, text: list[str]) -> Iterator[NamedText]:
    """Yield the text, and those in capitals listed after it: the words LOVE, PEACE and JOY."""
    place = prompt.index(text[0], start)
    end = _end(prompt, place, text)
    yield NamedText(place, " ".join(text))
    while all(map(is_capitals, text)) and (comma := _LIST.match(prompt, end)):
        text = find_phrase(words_from(prompt, comma.end()))
        if not text or not all(map(is_capitals, text)) or text[0][0].isdigit():
            return
        place = prompt.index(text[0], comma.end())
        end = _end(prompt, place, text)
        yield NamedText(place, " ".join(text))


def _end(prompt: str, place: int, text: list[str]) -> int:
    for word in text:
        place = prompt.index(word, place) + len(word)
    return place


def _find_before_verbs(prompt: str) -> Iterator[NamedText]:
    """Yield texts before a verb: GO written in the sand, Happy Birthday written on the cake."""
    for verb in _WRITTEN_VERB.finditer(prompt):
        run: list[str] = []
        for word in reversed(re.split(r"[.,;:()\n]", prompt[: verb.start()])[-1].split()):
            title = verb["verb"] in {"written", "spelled", "lettered", "inscribed"} and word[0].isupper()
            if BLANK in word or not (
                is_capitals(word) or title or word[0].isdigit() or (run and word in TITLE_WORDS)
            ):
                break
            run.insert(0, word)
        while run and run[0] in TITLE_WORDS:
            run.pop(0)
        if run and run[0] in {"A", "An", "The"} and not all(map(is_capitals, run)):
            run = []
        if run and (all(map(is_capitals, run)) or not _PEOPLE.search(" ".join(run))):
            yield NamedText(
                prompt.rindex(run[0], 0, verb.start()) if len(run) == 1 else _run_start(prompt, verb, run),
                " ".join(run),
            )


def _run_start(prompt: str, verb: re.Match[str], run: list[str]) -> int:
    place = verb.start()
    for word in reversed(run):
        place = prompt.rindex(word, 0, place)
    return place


def _find_capitals(prompt: str) -> Iterator[NamedText]:
    """Yield text in capitals directly after its carrier: a neon sign OPEN."""
    for bearer in _CAPITALS_CUE.finditer(prompt):
        text = find_phrase(words_from(prompt, bearer.end()))
        if text and is_loud(text):
            yield NamedText(prompt.index(text[0], bearer.end()), " ".join(text))
