"""A question turned into a statement: what puts a requirement back into a prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gems.models.blocks import vocabulary as words
from gems.models.blocks.asking import facts_of
from gems.models.blocks.parser import read
from gems.models.blocks.prompt_spec import ATTRIBUTES, Brief
from gems.models.blocks.wordings import clause

_SHOWN = re.compile(
    r"\W*do(?:es)?\s+(?:this|the)\s+(?:image|picture)\s+(?:show|contain|depict)\s*:?\s*(.+)", re.IGNORECASE
)
_THERE = re.compile(r"\W*(is|are)\s+there\s+(.+)", re.IGNORECASE)
_BEING = re.compile(r"\W*(is|are|was|were)\s+(.+)", re.IGNORECASE)
_AUXILIARY = re.compile(r"\W*(?:do|does|did|has|have|can|could|will|would|should)\s+(.+)", re.IGNORECASE)
_BREAK = re.compile(
    r"\s(?=(?:in|on|at|under|with|made|very|from|by|like|not|as|seen|left|right|above|below)\b)"
)
_SMALL = """
    the this that these those all each every any and for are was were is has have does did with from there
    image picture show shows shown contain contains depict depicts exactly least not
"""
_SMALL_WORDS = frozenset(_SMALL.split())


def content_words(text: str) -> set[str]:
    """The words that say what a text is about, each as a singular."""
    found = re.findall(r"\w{3,}", text.lower())
    return {word.removesuffix("s") for word in found if word not in _SMALL_WORDS}


def stated(question: str) -> str:
    """`The mood is gloomy.` for `Is the mood gloomy?`; plain English for any yes/no question."""
    asked = " ".join(question.split()).rstrip(" ?.!")
    if match := _SHOWN.fullmatch(asked):
        said = match[1]
        text = f"there is {said}" if re.match(r"an?\s|the\s|one\s", said, re.IGNORECASE) else said
    elif match := _THERE.fullmatch(asked):
        text = f"there {match[1].lower()} {match[2]}"
    elif match := _BEING.fullmatch(asked):
        text = _with_verb(match[1].lower(), match[2])
    elif match := _AUXILIARY.fullmatch(asked):
        text = f"make sure of this: {match[1]}"
    else:
        text = f"make sure of this: {asked}"
    return f"{text[:1].upper()}{text[1:]}."


def _with_verb(verb: str, rest: str) -> str:
    """The verb put behind the subject: before what begins like a predicate, or before the last word."""
    subject, *others = _BREAK.split(rest, maxsplit=1)
    predicate = others[0] if others else ""
    if not predicate:
        subject, _, predicate = rest.rpartition(" ")
    return f"{subject} {verb} {predicate}" if subject else f"it {verb} {predicate}"


def statements(question: str, user: Brief, new: Brief) -> Iterator[str]:
    """Sentences that may put a question back, the gentlest first.

    Args:
        question: Something that the new prompt does not ask for.
        user: What the user's prompt says: things are named as they can be told apart there.
        new: What the new prompt says: what it names without its colour is given one, not doubled.
    """
    for kind, index in facts_of(question, user):
        if kind in ("object", "count"):
            yield from _described(user, index, new)
        said = clause(user, ("object" if kind == "count" else kind, index))
        yield _sentence(said.replace("there are zero ", "there are no "))
    if _plain(question):
        yield stated(question)


def _described(user: Brief, index: int, new: Brief) -> Iterator[str]:
    """`The circles are red.`, where the new prompt names such things and says less of them."""
    group = user.groups[index]
    if group.noun == words.TEXT:
        return
    for other in new.groups:
        missing = [name for name in ATTRIBUTES if name in group.attributes and name not in other.attributes]
        shared = other.attributes.items() <= group.attributes.items()
        if other.noun == group.noun and shared and missing:
            said = [other.attributes.get(name) for name in ATTRIBUTES]
            noun = words.noun_phrase(other.noun, *said, many=other.many)
            adjectives = " and ".join(group.attributes[name] for name in missing)
            yield _sentence(f"the {noun} {'are' if other.many else 'is'} {adjectives}")


def _plain(question: str) -> bool:
    """Whether a statement of it says the same: of things that the world knows, only what it understands."""
    return not read(question).mentions or bool(_THERE.match(question) or _SHOWN.match(question))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
