"""Learn wordings from lessons of other runs, and distil a lesson from experiences."""

from __future__ import annotations

import re
from collections import Counter

from gems.models.blocks.prompt_spec import find_facts, parse_numbered, parse_prompt
from gems.models.blocks.wordings import Record, write_outcomes

MOST_WORDS = 100
HELD = re.compile(r"\[held (\d{1,6}) of (\d{1,6}) times\]")
_SEQUEL = re.compile(r'Then drawn: "(.*)"\. Then met: (.*)\. Still failed: (.*?)\.?$')
_FAILED = re.compile(r"Failed: ([a-z]+) \(|; ([a-z]+) \(")


def learn_lessons(record: Record, lessons: str) -> None:
    """Record numbered lessons, except those that failed more often than they held."""
    for line in parse_numbered(lessons) or lessons.splitlines():
        if is_reliable(line):
            learn_line(record, line)


def is_reliable(line: str) -> bool:
    """Whether a lesson held at least as often as it failed, or is untried."""
    held = HELD.match(line)
    return held is None or 2 * int(held[1]) >= int(held[2])


def learn_line(record: Record, line: str) -> None:
    """Record the wordings of one experience or lesson, and the outcome of the next round in it."""
    sequel = _SEQUEL.search(line)
    record.learn(line[: sequel.start()] if sequel else line)
    if sequel is None:
        return
    drawn = parse_prompt(sequel[1].replace(" / ", "\n"))
    for questions, worked in ((sequel[2], True), (sequel[3], False)):
        for question in questions.split("; "):
            for fact in find_facts(question, drawn):
                for wording in drawn.emphasis.get(fact, ()):
                    record.note(fact[0], wording, worked=worked)


def distil_lesson(experiences: str) -> str:
    """Summarise numbered experiences in a lesson of at most 100 words, by majority."""
    record, failed = Record(), Counter[str]()
    for line in parse_numbered(experiences):
        learn_line(record, line)
        failed.update(name for pair in _FAILED.findall(line) for name in pair if name)
    known = sorted(
        {*record.worked, *record.failed},
        key=lambda key: (-record.worked[key] - record.failed[key], key),
    )
    sentences = [write_outcomes(*key, record.worked[key], record.failed[key]) for key in known]
    if failed:
        sentences.append(f"Often failed: {', '.join(name for name, _ in failed.most_common(3))}.")
    text = ""
    for sentence in sentences:
        if len(f"{text} {sentence}".split()) <= MOST_WORDS:
            text = f"{text} {sentence}".strip()
    return text or "Nothing that can be stressed was learnt."
