"""Turn questions into statements that restore requirements in a prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gems.models.blocks import vocabulary as words
from gems.models.blocks.parser import parse_text
from gems.models.blocks.prompt_spec import ATTRIBUTES, PromptSpec, find_facts
from gems.models.blocks.wordings import write_clause

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


def find_content_words(text: str) -> set[str]:
    """Return the content words of a text, as singulars."""
    found = re.findall(r"\w{3,}", text.lower())
    return {word.removesuffix("s") for word in found if word not in _SMALL_WORDS}


def state_question(question: str) -> str:
    """Turn a yes/no question into a statement: `Is it dark?` becomes `It is dark.`."""
    asked = " ".join(question.split()).rstrip(" ?.!")
    if match := _SHOWN.fullmatch(asked):
        said = match[1]
        text = f"there is {said}" if re.match(r"an?\s|the\s|one\s", said, re.IGNORECASE) else said
    elif match := _THERE.fullmatch(asked):
        text = f"there {match[1].lower()} {match[2]}"
    elif match := _BEING.fullmatch(asked):
        text = _move_verb(match[1].lower(), match[2])
    elif match := _AUXILIARY.fullmatch(asked):
        text = f"make sure of this: {match[1]}"
    else:
        text = f"make sure of this: {asked}"
    return f"{text[:1].upper()}{text[1:]}."


def _move_verb(verb: str, rest: str) -> str:
    """Move the verb after the subject: before the predicate, or before the last word."""
    subject, *others = _BREAK.split(rest, maxsplit=1)
    predicate = others[0] if others else ""
    if not predicate:
        subject, _, predicate = rest.rpartition(" ")
    return f"{subject} {verb} {predicate}" if subject else f"it {verb} {predicate}"


def propose_statements(question: str, user: PromptSpec, new: PromptSpec) -> Iterator[str]:
    """Yield sentences that may restore a question, the least intrusive first.

    Things are named so that they are distinct in `user`, the user's prompt; a thing that `new`, the new
    prompt, names without its attributes gets them instead of being mentioned twice.
    """
    for kind, index in find_facts(question, user):
        if kind in ("object", "count"):
            yield from _describe_group(user, index, new)
        said = write_clause(user, ("object" if kind == "count" else kind, index))
        yield _format_sentence(said.replace("there are zero ", "there are no "))
    if _is_plain(question):
        yield state_question(question)


def _describe_group(user: PromptSpec, index: int, new: PromptSpec) -> Iterator[str]:
    """Yield `The circles are red.` if the new prompt names such things with fewer attributes."""
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
            yield _format_sentence(f"the {noun} {'are' if other.many else 'is'} {adjectives}")


def _is_plain(question: str) -> bool:
    """Whether a statement would mean the same: no known things, or a form that is understood."""
    return not parse_text(question).mentions or bool(_THERE.match(question) or _SHOWN.match(question))


def _format_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
