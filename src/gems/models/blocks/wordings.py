"""Wordings that stress a fact, and their record.

The reflector learns their effects from experiences of its run and from lessons of others. Outcomes are
written in one fixed form, so that they can be parsed again.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from gems.models.blocks import vocabulary as words
from gems.models.blocks.prompt_spec import Fact, PromptSpec, phrase, quoted

TOPICS: dict[str, str] = {
    "object": "presence",
    "count": "counts",
    "colour": "colours",
    "size": "sizes",
    "texture": "textures",
    "relation": "positions",
    "text": "lettering",
    "background": "backgrounds",
}
"""Kind of fact -> its name in experiences."""
_GENERAL = ("important", "repeat", "exactly")
_OPENINGS = {"important": "IMPORTANT: ", "repeat": "Again: ", "exactly": "Exactly so: "}
_HALVES = {
    "above": ("at the top", "at the bottom"),
    "below": ("at the bottom", "at the top"),
    "left of": ("in the left half", "in the right half"),
    "right of": ("in the right half", "in the left half"),
}
_OUTCOME = re.compile(
    rf"For ({'|'.join(TOPICS.values())}), the wording \"(\w+)\" (worked|did not work)"
    r"(?: \((\d{1,4}) of (\d{1,4}) times\))?",
    re.IGNORECASE,
)


def list_wordings(spec: PromptSpec, fact: Fact) -> tuple[str, ...]:
    """List the wordings that can stress a fact, in their default order."""
    kind, index = fact
    if kind == "relation":
        return (*_GENERAL, "place")
    if kind == "text" and _spell(spec.groups[index].word):
        return (*_GENERAL, "spelled")
    return _GENERAL


def write_sentence(spec: PromptSpec, fact: Fact, wording: str) -> str:
    """Write a sentence that states a fact of `spec` with `wording`."""
    kind, index = fact
    if kind == "relation" and wording == "place":
        return _write_placement(spec, index)
    if kind == "text" and wording == "spelled":
        word = spec.groups[index].word
        return f"The word {quoted(word)} is spelled {_spell(word)}."
    if wording == "exactly" and kind == "count":
        return f"Exactly {_write_amount(spec, index)}."
    return f"{_OPENINGS[wording]}{write_clause(spec, fact)}."


def write_clause(spec: PromptSpec, fact: Fact) -> str:
    """Write a clause that states a fact of `spec` without stress."""
    kind, index = fact
    if kind == "background":
        return f"the background is {spec.background}"
    if kind == "relation":
        relation = spec.relations[index]
        subject, target = phrase(spec, relation.subject), phrase(spec, relation.target)
        return f"the {subject} {_choose_verb(spec, relation.subject)} {relation.name} the {target}"
    group = spec.groups[index]
    if kind == "text":
        return f"the word {quoted(group.word)}"
    if kind in ("size", "texture"):
        return f"the {phrase(spec, index)} {_choose_verb(spec, index)} {group.attributes[kind]}"
    if kind == "colour":
        return f"the colour of the {phrase(spec, index)} is {group.attributes[kind]}"
    if kind == "count":
        return f"{_write_amount(spec, index)} altogether"
    return f"there {_choose_verb(spec, index)} {_write_amount(spec, index)}"


def _choose_verb(spec: PromptSpec, index: int) -> str:
    return "are" if spec.groups[index].many else "is"


def _write_amount(spec: PromptSpec, index: int) -> str:
    group = spec.groups[index]
    if group.count is None:
        return f"the {phrase(spec, index)}"
    if group.count == 1 and not group.explicit:
        return words.with_article(phrase(spec, index))
    return f"{words.number_word(group.count)} {phrase(spec, index)}"


def _write_placement(spec: PromptSpec, index: int) -> str:
    relation = spec.relations[index]
    subject, target = phrase(spec, relation.subject), phrase(spec, relation.target)
    if relation.name in _HALVES:
        here, there = _HALVES[relation.name]
        return f"The {subject} {here}, the {target} {there}."
    where = "in the middle of" if relation.name == "inside" else "at the top of"
    return f"The {subject} {where} the {target}."


def _spell(word: str) -> str:
    """Spell a word: `G-O`; empty if there is nothing to spell."""
    parts = ["-".join(c for c in part if c.isascii() and c.isalnum()) for part in word.split()]
    return " ".join(part for part in parts if len(part) > 1)


_FAILURES_WEIGH = 4
"""Most facts succeed with any wording, so a failure is stronger evidence than a success."""


@dataclass
class Record:
    """How often each wording worked for each kind of fact."""

    worked: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)

    def learn(self, text: str) -> None:
        """Record all outcomes in the text of an experience."""
        kinds = {topic: kind for kind, topic in TOPICS.items()}
        for topic, wording, outcome, times, tried in _OUTCOME.findall(text):
            worked, count = outcome.lower() == "worked", int(times or 1)
            key = kinds[topic.lower()], wording.lower()
            self.note(*key, worked=worked, times=count)
            self.note(*key, worked=not worked, times=max(0, int(tried or 1) - count))

    def note(self, kind: str, wording: str, *, worked: bool, times: int = 1) -> None:
        """Record an outcome."""
        (self.worked if worked else self.failed)[kind, wording] += times

    def trust(self, kind: str, wording: str) -> float:
        """Return the reliability of a wording in (0, 1), 0.5 if unknown."""
        worked, failed = self.worked[kind, wording], self.failed[kind, wording]
        return (worked + 1) / (worked + _FAILURES_WEIGH * failed + 2)

    def proven(self, kind: str, wording: str) -> bool:
        """Whether it worked often enough to be used before a failure."""
        return self.worked[kind, wording] >= 3 and self.trust(kind, wording) >= 0.75


def write_outcome(kind: str, wording: str, *, worked: bool) -> str:
    """Write the sentence of an experience that `Record.learn` parses."""
    return f'For {TOPICS[kind]}, the wording "{wording}" {"worked" if worked else "did not work"}.'


def write_outcomes(kind: str, wording: str, worked: int, failed: int) -> str:
    """Write the outcome of several experiences, by majority."""
    mostly = worked >= failed
    said = write_outcome(kind, wording, worked=mostly).rstrip(".")
    return f"{said} ({max(worked, failed)} of {worked + failed} times)."
