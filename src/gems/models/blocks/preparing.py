"""Before the first round: a prompt that stresses what other runs found to need it."""

from __future__ import annotations

from gems.models.blocks.lessons import learn_lessons
from gems.models.blocks.prompt_spec import Brief, Fact, understand
from gems.models.blocks.reflector import all_facts
from gems.models.blocks.wordings import Record, sentence, wordings

_TRUSTED = 0.5
"""More than nothing is known, and failures weigh heavily; see `Record.trust`."""


def prepared(prompt: str, lessons: str) -> str:
    """The prompt with a sentence behind it for each fact that lessons know a wording for."""
    brief, record = understand(prompt), Record()
    learn_lessons(record, lessons)
    lines = [
        sentence(brief, fact, wording)
        for fact in all_facts(brief)
        if (wording := _trusted(record, brief, fact)) is not None
    ]
    return "\n".join([prompt.strip(), *dict.fromkeys(lines)])


def _trusted(record: Record, brief: Brief, fact: Fact) -> str | None:
    best = max(wordings(brief, fact), key=lambda wording: record.trust(fact[0], wording))
    return best if record.trust(fact[0], best) > _TRUSTED else None
