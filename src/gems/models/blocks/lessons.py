"""Lessons of other runs: what they tell of wordings, and one drawn from several experiences."""

from __future__ import annotations

import re
from collections import Counter

from gems.models.blocks.asking import facts_of, numbered
from gems.models.blocks.prompt_spec import understand
from gems.models.blocks.wordings import Record, outcomes

MOST_WORDS = 100
HELD = re.compile(r"\[held (\d{1,6}) of (\d{1,6}) times\]")
_SEQUEL = re.compile(r'Then drawn: "(.*)"\. Then met: (.*)\. Still failed: (.*?)\.?$')
_FAILED = re.compile(r"Failed: ([a-z]+) \(|; ([a-z]+) \(")


def learn_lessons(record: Record, lessons: str) -> None:
    """Take in numbered lessons, but none that failed more often than it held."""
    for line in numbered(lessons) or lessons.splitlines():
        if relied_on(line):
            learn_line(record, line)


def relied_on(line: str) -> bool:
    """Whether a lesson held as often as it failed, or was not tried yet."""
    held = HELD.match(line)
    return held is None or 2 * int(held[1]) >= int(held[2])


def learn_line(record: Record, line: str) -> None:
    """Take in what one experience or lesson tells: of wordings in so many words, and how it went on."""
    sequel = _SEQUEL.search(line)
    record.learn(line[: sequel.start()] if sequel else line)
    if sequel is None:
        return
    drawn = understand(sequel[1].replace(" / ", "\n"))
    for questions, worked in ((sequel[2], True), (sequel[3], False)):
        for question in questions.split("; "):
            for fact in facts_of(question, drawn):
                for wording in drawn.emphasis.get(fact, ()):
                    record.note(fact[0], wording, worked=worked)


def distilled(experiences: str) -> str:
    """One lesson from numbered experiences, in at most 100 words: what most of them agree on."""
    record, failed = Record(), Counter[str]()
    for line in numbered(experiences):
        learn_line(record, line)
        failed.update(name for pair in _FAILED.findall(line) for name in pair if name)
    known = sorted(
        {*record.worked, *record.failed},
        key=lambda key: (-record.worked[key] - record.failed[key], key),
    )
    sentences = [outcomes(*key, record.worked[key], record.failed[key]) for key in known]
    if failed:
        sentences.append(f"Often failed: {', '.join(name for name, _ in failed.most_common(3))}.")
    text = ""
    for sentence in sentences:
        if len(f"{text} {sentence}".split()) <= MOST_WORDS:
            text = f"{text} {sentence}".strip()
    return text or "Nothing that can be stressed was learnt."
