"""Prepare the first prompt with wordings from lessons of other runs."""

from __future__ import annotations

from gems.models.blocks.lessons import learn_lessons
from gems.models.blocks.prompt_spec import Fact, PromptSpec, parse_prompt
from gems.models.blocks.reflector import list_facts
from gems.models.blocks.wordings import Record, list_wordings, write_sentence

_MIN_TRUST = 0.5
"""`Record.trust` without evidence; a wording must exceed it."""


def prepare_prompt(prompt: str, lessons: str) -> str:
    """Append a sentence for each fact that lessons have a wording for."""
    spec, record = parse_prompt(prompt), Record()
    learn_lessons(record, lessons)
    lines = [
        write_sentence(spec, fact, wording)
        for fact in list_facts(spec)
        if (wording := _choose_trusted(record, spec, fact)) is not None
    ]
    return "\n".join([prompt.strip(), *dict.fromkeys(lines)])


def _choose_trusted(record: Record, spec: PromptSpec, fact: Fact) -> str | None:
    best = max(list_wordings(spec, fact), key=lambda wording: record.trust(fact[0], wording))
    return best if record.trust(fact[0], best) > _MIN_TRUST else None
