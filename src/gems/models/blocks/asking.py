"""Numbered lists of questions, and the facts that a question is about."""

from __future__ import annotations

import re

from gems.models.blocks import vocabulary as words
from gems.models.blocks.parser import parse_text
from gems.models.blocks.prompt_spec import Fact, PromptSpec, find_group

_NUMBERED = re.compile(r"^\s*\d+[.)]\s*(.+?)\s*$", re.MULTILINE)


def parse_numbered(text: str) -> list[str]:
    """Return the lines of a numbered list without their numbers."""
    return _NUMBERED.findall(text)


def find_facts(question: str, spec: PromptSpec) -> list[Fact]:
    """Return the facts of a spec that a question is about."""
    reading = parse_text(question)
    if reading.links:
        link = reading.links[0]
        ends = {find_group(spec, reading.mentions[i]) for i in (link.subject, link.target)}
        return [("relation", i) for i, r in enumerate(spec.relations) if {r.subject, r.target} == ends]
    for mention in reading.mentions:
        if mention.noun == words.BACKGROUND:
            return [("background", 0)] if spec.background else []
        index = find_group(spec, mention)
        if index is None:
            continue
        if mention.noun == words.TEXT:
            return [("text", index)]
        if mention.predicate:
            return [(name, index) for name in mention.predicate]
        return [("count" if mention.explicit else "object", index)]
    return []
