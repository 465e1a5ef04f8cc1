"""Ways to stress a fact, and what is remembered about them.

The reflector knows these sentences but not what they do: that it learns from experiences, its own of this
run and lessons of others. It writes them in plain English in one form, so that it can read them again.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from gems.models.blocks import vocabulary as words
from gems.models.blocks.prompt_spec import Brief, Fact
from gems.models.blocks.questions import phrase, quoted

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
"""Kind of fact -> what experiences call it."""
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


def wordings(brief: Brief, fact: Fact) -> tuple[str, ...]:
    """Names of the wordings that can stress a fact, in the order they are tried without experience."""
    kind, index = fact
    if kind == "relation":
        return (*_GENERAL, "place")
    if kind == "text" and _spelling(brief.groups[index].word):
        return (*_GENERAL, "spelled")
    return _GENERAL


def sentence(brief: Brief, fact: Fact, wording: str) -> str:
    """One sentence that says `fact` of `brief` with `wording`."""
    kind, index = fact
    if kind == "relation" and wording == "place":
        return _placed(brief, index)
    if kind == "text" and wording == "spelled":
        word = brief.groups[index].word
        return f"The word {quoted(word)} is spelled {_spelling(word)}."
    if wording == "exactly" and kind == "count":
        return f"Exactly {_amount(brief, index)}."
    return f"{_OPENINGS[wording]}{clause(brief, fact)}."


def clause(brief: Brief, fact: Fact) -> str:
    """`fact` of `brief` in plain words, without anything that stresses it."""
    kind, index = fact
    if kind == "background":
        return f"the background is {brief.background}"
    if kind == "relation":
        relation = brief.relations[index]
        subject, target = phrase(brief, relation.subject), phrase(brief, relation.target)
        return f"the {subject} {_verb(brief, relation.subject)} {relation.name} the {target}"
    group = brief.groups[index]
    if kind == "text":
        return f"the word {quoted(group.word)}"
    if kind in ("size", "texture"):
        return f"the {phrase(brief, index)} {_verb(brief, index)} {group.attributes[kind]}"
    if kind == "colour":
        return f"the colour of the {phrase(brief, index)} is {group.attributes[kind]}"
    if kind == "count":
        return f"{_amount(brief, index)} altogether"
    return f"there {_verb(brief, index)} {_amount(brief, index)}"


def _verb(brief: Brief, index: int) -> str:
    return "are" if brief.groups[index].many else "is"


def _amount(brief: Brief, index: int) -> str:
    group = brief.groups[index]
    if group.count is None:
        return f"the {phrase(brief, index)}"
    if group.count == 1 and not group.explicit:
        return words.with_article(phrase(brief, index))
    return f"{words.number_word(group.count)} {phrase(brief, index)}"


def _placed(brief: Brief, index: int) -> str:
    relation = brief.relations[index]
    subject, target = phrase(brief, relation.subject), phrase(brief, relation.target)
    if relation.name in _HALVES:
        here, there = _HALVES[relation.name]
        return f"The {subject} {here}, the {target} {there}."
    where = "in the middle of" if relation.name == "inside" else "at the top of"
    return f"The {subject} {where} the {target}."


def _spelling(word: str) -> str:
    """`G-O`; empty where there is nothing to spell."""
    parts = ["-".join(c for c in part if c.isascii() and c.isalnum()) for part in word.split()]
    return " ".join(part for part in parts if len(part) > 1)


_FAILURES_WEIGH = 4
"""Most of what is drawn succeeds with any wording, so one failure says more than one success."""


@dataclass
class Record:
    """How often each wording worked for each kind of fact."""

    worked: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)

    def learn(self, text: str) -> None:
        """Take in every outcome that an experience tells of, whoever wrote it."""
        kinds = {topic: kind for kind, topic in TOPICS.items()}
        for topic, wording, outcome, times, tried in _OUTCOME.findall(text):
            worked, count = outcome.lower() == "worked", int(times or 1)
            key = kinds[topic.lower()], wording.lower()
            self.note(*key, worked=worked, times=count)
            self.note(*key, worked=not worked, times=max(0, int(tried or 1) - count))

    def note(self, kind: str, wording: str, *, worked: bool, times: int = 1) -> None:
        """Take in an outcome, so often."""
        (self.worked if worked else self.failed)[kind, wording] += times

    def trust(self, kind: str, wording: str) -> float:
        """How far to rely on a wording, in (0, 1); one half where nothing is known."""
        worked, failed = self.worked[kind, wording], self.failed[kind, wording]
        return (worked + 1) / (worked + _FAILURES_WEIGH * failed + 2)

    def proven(self, kind: str, wording: str) -> bool:
        """Whether it worked often enough to be used before anything fails."""
        return self.worked[kind, wording] >= 3 and self.trust(kind, wording) >= 0.75


def outcome(kind: str, wording: str, *, worked: bool) -> str:
    """The sentence of an experience that `Record.learn` reads."""
    return f'For {TOPICS[kind]}, the wording "{wording}" {"worked" if worked else "did not work"}.'


def outcomes(kind: str, wording: str, worked: int, failed: int) -> str:
    """The same of several experiences, by the majority of them."""
    mostly = worked >= failed
    said = outcome(kind, wording, worked=mostly).rstrip(".")
    return f"{said} ({max(worked, failed)} of {worked + failed} times)."
