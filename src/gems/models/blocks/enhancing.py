"""A prompt enhanced by a skill's guidance: what the guidance speaks of is stated once more, in plain words.

The sentences are those that a careful user would add. Which wording serves which kind of fact is said by the
guidance, where it was written from lessons, or is the customary one; what this world's weaknesses are is
not looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from gems.models.blocks.prompt_spec import Brief, Fact, understand
from gems.models.blocks.reflector import all_facts
from gems.models.blocks.wordings import Record, sentence, wordings

_TOLD = 0.5
"""What a guidance tells of a wording counts where it speaks for it; see `Record.trust`."""
_SPEAKS: Mapping[str, re.Pattern[str]] = MappingProxyType(
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
_CUSTOMARY: Mapping[str, str] = MappingProxyType({"count": "exactly", "relation": "place", "text": "spelled"})
_NOT_LETTERING = re.compile(r"\btext[- ]to[- ]image\b", re.IGNORECASE)


def enhanced(prompt: str, guidance: str) -> str:
    """The prompt, and behind it a sentence for each fact that the guidance is about."""
    brief, said = understand(prompt), prompt.strip().splitlines()
    for fact, wording in _planned(brief, guidance):
        line = sentence(brief, fact, wording)
        if line not in said and _harmless(brief, "\n".join([*said, line])):
            said.append(line)
    return "\n".join(said)


def topics(guidance: str) -> set[str]:
    """Kinds of facts that the first heading or the first paragraph of a guidance speaks of."""
    opening = _NOT_LETTERING.sub("", _opening(guidance))
    return {kind for kind, pattern in _SPEAKS.items() if pattern.search(opening)}


def _opening(guidance: str) -> str:
    """The headings before the first paragraph, and that paragraph."""
    taken: list[str] = []
    for block in re.split(r"\n\s*\n", guidance.strip()):
        lines = block.strip().splitlines()
        taken += lines
        if any(line.strip() and not line.lstrip().startswith("#") for line in lines):
            break
    return "\n".join(taken)


def _planned(brief: Brief, guidance: str) -> Iterator[tuple[Fact, str]]:
    record, spoken = Record(), topics(guidance)
    record.learn(guidance)
    for fact in all_facts(brief):
        kind, index = fact
        if kind == "count" and not brief.groups[index].count:
            continue
        options = wordings(brief, fact)
        best = max(options, key=lambda wording: record.trust(fact[0], wording))
        customary = _CUSTOMARY.get(kind)
        if record.trust(kind, best) > _TOLD:
            yield fact, best
        elif kind in spoken and customary in options and record.trust(kind, customary) >= _TOLD:
            yield fact, customary


def _harmless(brief: Brief, text: str) -> bool:
    """Whether a longer prompt still means the same picture."""
    again = understand(text)
    return (again.groups, again.relations, again.background) == (
        brief.groups,
        brief.relations,
        brief.background,
    )
