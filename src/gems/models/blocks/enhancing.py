"""Enhance a prompt by a skill's guidance: restate the facts that the guidance is about.

The wording for each kind of fact comes from the guidance, if it was written from lessons, or is the default
one; the world's error model is not consulted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from gems.models.blocks.prompt_spec import Fact, PromptSpec, parse_prompt
from gems.models.blocks.reflector import list_facts
from gems.models.blocks.wordings import Record, list_wordings, write_sentence

_NEUTRAL_TRUST = 0.5
"""`Record.trust` without evidence: only wordings above it are recommended."""
_TOPIC_PATTERNS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "count": re.compile(r"\b(?:count(?:s|ed|ing)?|numbers?|how many)\b", re.IGNORECASE),
        "relation": re.compile(
            r"\b(?:places?|placed|placing|placement|positions?|positioned|positioning|layouts?|spatial"
            r"|arrangements?)\b",
            re.IGNORECASE,
        ),
        "text": re.compile(
            r"\b(?:lettering|letters?|texts?|quoted|spell(?:s|ed|ing)?|typography)\b", re.IGNORECASE
        ),
    }
)
_DEFAULT_WORDINGS: Mapping[str, str] = MappingProxyType(
    {"count": "exactly", "relation": "place", "text": "spelled"}
)
_NOT_LETTERING = re.compile(r"\btext[- ]to[- ]image\b", re.IGNORECASE)


def enhance_prompt(prompt: str, guidance: str) -> str:
    """Append a sentence for each fact that the guidance is about."""
    spec, said = parse_prompt(prompt), prompt.strip().splitlines()
    for fact, wording in _plan_sentences(spec, guidance):
        line = write_sentence(spec, fact, wording)
        if line not in said and _keeps_meaning(spec, "\n".join([*said, line])):
            said.append(line)
    return "\n".join(said)


def find_topics(guidance: str) -> set[str]:
    """Return the kinds of facts that the headings and the first paragraph of a guidance mention."""
    opening = _NOT_LETTERING.sub("", _find_opening(guidance))
    return {kind for kind, pattern in _TOPIC_PATTERNS.items() if pattern.search(opening)}


def _find_opening(guidance: str) -> str:
    """Return the headings before the first paragraph, and that paragraph."""
    taken: list[str] = []
    for block in re.split(r"\n\s*\n", guidance.strip()):
        lines = block.strip().splitlines()
        taken += lines
        if any(line.strip() and not line.lstrip().startswith("#") for line in lines):
            break
    return "\n".join(taken)


def _plan_sentences(spec: PromptSpec, guidance: str) -> Iterator[tuple[Fact, str]]:
    record, spoken = Record(), find_topics(guidance)
    record.learn(guidance)
    for fact in list_facts(spec):
        kind, index = fact
        if kind == "count" and not spec.groups[index].count:
            continue
        options = list_wordings(spec, fact)
        best = max(options, key=lambda wording: record.trust(fact[0], wording))
        customary = _DEFAULT_WORDINGS.get(kind)
        if record.trust(kind, best) > _NEUTRAL_TRUST:
            yield fact, best
        elif kind in spoken and customary in options and record.trust(kind, customary) >= _NEUTRAL_TRUST:
            yield fact, customary


def _keeps_meaning(spec: PromptSpec, text: str) -> bool:
    """Whether a longer prompt still describes the same image."""
    again = parse_prompt(text)
    return (again.groups, again.relations, again.background) == (
        spec.groups,
        spec.relations,
        spec.background,
    )
