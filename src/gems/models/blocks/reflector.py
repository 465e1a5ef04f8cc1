"""Reflect on a round: summarise failures, and write a prompt that stresses them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gems.models.blocks import vocabulary as words
from gems.models.blocks.lessons import MOST_WORDS, learn_lessons
from gems.models.blocks.prompt_spec import Fact, PromptSpec, find_facts, parse_numbered, parse_prompt
from gems.models.blocks.wordings import TOPICS, Record, list_wordings, write_outcome, write_sentence

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
