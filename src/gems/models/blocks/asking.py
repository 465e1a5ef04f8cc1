"""What numbered questions are about."""

from __future__ import annotations

import re

from gems.models.blocks import vocabulary as words
from gems.models.blocks.parser import read
from gems.models.blocks.prompt_spec import Brief, Fact, matching

_NUMBERED = re.compile(r"^\s*\d+[.)]\s*(.+?)\s*$", re.MULTILINE)


def numbered(text: str) -> list[str]:
    """The lines of a numbered list without their numbers."""
    return _NUMBERED.findall(text)


def facts_of(question: str, brief: Brief) -> list[Fact]:
    """The facts of a brief that a question is about; empty where it is about nothing in it."""
    reading = read(question)
    if reading.links:
        link = reading.links[0]
        ends = {matching(brief, reading.mentions[i]) for i in (link.subject, link.target)}
        return [("relation", i) for i, r in enumerate(brief.relations) if {r.subject, r.target} == ends]
    for mention in reading.mentions:
        if mention.noun == words.BACKGROUND:
            return [("background", 0)] if brief.background else []
        index = matching(brief, mention)
        if index is None:
            continue
        if mention.noun == words.TEXT:
            return [("text", index)]
        if mention.predicate:
            return [(name, index) for name in mention.predicate]
        return [("count" if mention.explicit else "object", index)]
    return []
