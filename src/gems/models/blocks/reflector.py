"""What failed, wordings, lessons."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from gems.models.blocks import vocabulary as words
from gems.models.blocks.prompt_spec import (
    Fact,
    PromptSpec,
    find_facts,
    parse_numbered,
    parse_prompt,
    phrase,
    quoted,
)

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


_ABSENT = re.compile(r"\b(?:see no|do not see|makes no sense without)\b", re.IGNORECASE)
_JUST_FAILED = 0.25
"""Penalty of a wording that has just failed: an untried one is preferred, unless it is well proven."""
_CLOSINGS = ("Draw it carefully.", "Check every detail.", "Leave nothing out.")


@dataclass(frozen=True, slots=True)
class RoundReport:
    """Contents of a reflection request's tags; see `schemas.TASK_TAGS`."""

    user_prompt: str
    drawn_prompt: str = ""
    passed: str = ""
    failed: str = ""
    experiences: str = ""
    lessons: str = ""


@dataclass(frozen=True, slots=True)
class Reflection:
    """An experience of at most 100 words, and the complete next prompt."""

    experience: str
    prompt: str
    thought: str


def reflect_on_round(report: RoundReport) -> Reflection:
    """Summarise a round as an experience and write the next prompt."""
    return _Reflector(report).reflect()


def list_facts(spec: PromptSpec) -> list[Fact]:
    """List the facts of a spec that can be stressed."""
    facts: list[Fact] = []
    for index, group in enumerate(spec.groups):
        if group.noun == words.TEXT:
            facts.append(("text", index))
        else:
            first = "count" if group.explicit else "object"
            facts += [(first, index), *((name, index) for name in group.attributes)]
            facts += [("object", index)] if first == "count" else []
    facts += [("relation", index) for index in range(len(spec.relations))]
    return facts + ([("background", 0)] if spec.background else [])


class _Reflector:
    def __init__(self, report: RoundReport) -> None:
        self._report = report
        self._spec = parse_prompt(report.user_prompt)
        self._record = Record()
        learn_lessons(self._record, report.lessons)
        self._record.learn(report.experiences)
        self._used = self._wordings_of(report.drawn_prompt)
        self._failed: dict[Fact, str] = {}
        self._impossible: list[str] = []
        for line in parse_numbered(report.failed):
            question, _, evidence = line.partition("? - ")
            self._note_failure(question.strip() + "?" if evidence else line, evidence)

    def _wordings_of(self, prompt: str) -> dict[Fact, str]:
        """Return the wordings that the drawn prompt used."""
        used: dict[Fact, str] = {}
        added = prompt.strip().removeprefix(self._report.user_prompt.strip())
        for fact in list_facts(self._spec):
            for wording in list_wordings(self._spec, fact):
                if write_sentence(self._spec, fact, wording) in added:
                    used[fact] = wording
        return used

    def _note_failure(self, question: str, evidence: str) -> None:
        facts = find_facts(question, self._spec)
        if not facts:
            self._impossible.append(question)
        for kind, index in facts:
            if kind in ("object", "count"):
                self._failed.setdefault(self._diagnosed(kind, index, evidence), evidence or question)
            elif kind in ("text", "background") or not _ABSENT.search(evidence):
                # Properties of a missing thing fail with it and need no stress.
                self._failed.setdefault((kind, index), evidence or question)

    def _diagnosed(self, kind: str, index: int, evidence: str) -> Fact:
        """Distinguish a wrong count from a wrong colour and from missing things."""
        if re.search(r"\bsee no\b.*, but\b", evidence) and "colour" in self._spec.groups[index].attributes:
            return "colour", index
        return ("object", index) if _ABSENT.search(evidence) else (kind, index)

    def reflect(self) -> Reflection:
        outcomes = self._outcomes()
        for kind, wording, worked in outcomes:
            self._record.note(kind, wording, worked=worked)
        plan = self._plan()
        prompt = self._next_prompt(plan)
        chosen = ", ".join(f'"{wording}" for {TOPICS[fact[0]]}' for fact, wording in plan.items())
        failures = len(self._failed) + len(self._impossible)
        thought = f"{failures} of the questions failed. I stress with {chosen or 'nothing'}."
        return Reflection(self._experience(outcomes), prompt, thought)

    def _outcomes(self) -> list[tuple[str, str, bool]]:
        passed = {
            fact
            for question in parse_numbered(self._report.passed)
            for fact in find_facts(question, self._spec)
        }
        # A correct group also has the correct colour and is present.
        passed |= {
            (kind, i) for name, i in passed if name in ("object", "count") for kind in ("object", "colour")
        }
        found = []
        for (kind, index), wording in self._used.items():
            if (kind, index) in self._failed:
                found.append((kind, wording, False))
            elif (kind, index) in passed:
                found.append((kind, wording, True))
        return list(dict.fromkeys(found))

    def _plan(self) -> dict[Fact, str]:
        """Choose wordings for failed facts, for facts already stressed, and for proven wordings."""
        plan: dict[Fact, str] = {}
        for fact in list_facts(self._spec):
            best = self._best(fact)
            if fact in self._failed:
                plan[fact] = best
            elif fact in self._used:
                plan[fact] = self._used[fact]
            elif self._record.proven(fact[0], best):
                plan[fact] = best
        return plan

    def _best(self, fact: Fact) -> str:
        options = list_wordings(self._spec, fact)
        failed_with = self._used.get(fact) if fact in self._failed else None

        def worth(wording: str) -> tuple[float, int]:
            trust = self._record.trust(fact[0], wording)
            return trust - (_JUST_FAILED if wording == failed_with else 0.0), -options.index(wording)

        return max(options, key=worth)

    def _next_prompt(self, plan: dict[Fact, str]) -> str:
        lines = list(
            dict.fromkeys(write_sentence(self._spec, fact, wording) for fact, wording in plan.items())
        )
        user = self._report.user_prompt.strip()
        prompt = "\n".join([user, *lines])
        for closing in _CLOSINGS:
            if prompt.strip() not in ("", self._report.drawn_prompt.strip()):
                break
            prompt = "\n".join([user, *lines, closing])
        return prompt.strip()

    def _experience(self, outcomes: list[tuple[str, str, bool]]) -> str:
        sentences = [write_outcome(kind, wording, worked=worked) for kind, wording, worked in outcomes]
        missing = [f"{TOPICS[fact[0]]} ({_shorten(evidence)})" for fact, evidence in self._failed.items()]
        head = f"Failed: {'; '.join(missing[:3])}." if missing else "Nothing that can be stressed failed."
        if self._impossible:
            head += f" Not in reach of this world: {_shorten(self._impossible[0])}."
        text = head
        for line in sentences:
            if len(f"{text} {line}".split()) > MOST_WORDS:
                break
            text = f"{text} {line}"
        return text


def _shorten(text: str) -> str:
    parts = text.rstrip(".").split()
    return " ".join(parts[:12]) + ("…" if len(parts) > 12 else "")
