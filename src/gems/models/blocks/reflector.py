"""After a round: what failed and why, and a prompt that stresses it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gems.models.blocks import vocabulary as words
from gems.models.blocks.asking import facts_of, numbered
from gems.models.blocks.lessons import learn_lessons
from gems.models.blocks.prompt_spec import Brief, Fact, understand
from gems.models.blocks.wordings import TOPICS, Record, outcome, sentence, wordings

MOST_WORDS = 100
_ABSENT = re.compile(r"\b(?:see no|do not see|makes no sense without)\b", re.IGNORECASE)
_JUST_FAILED = 0.25
"""What a wording loses when it has just failed: one without a record is tried, unless it is well proven."""
_CLOSINGS = ("Draw it carefully.", "Check every detail.", "Leave nothing out.")


@dataclass(frozen=True, slots=True)
class RoundReport:
    """What the reflector is told about a round, each as the text of its tag; see `tasks.TASK_TAGS`."""

    user_prompt: str
    drawn_prompt: str = ""
    passed: str = ""
    failed: str = ""
    experiences: str = ""
    lessons: str = ""


@dataclass(frozen=True, slots=True)
class Reflection:
    """What was learnt, in at most 100 words, and the whole next prompt."""

    experience: str
    prompt: str
    thought: str


def reflected(report: RoundReport) -> Reflection:
    """Compress a round to an experience and write the next prompt."""
    return _Reflector(report).reflect()


def all_facts(brief: Brief) -> list[Fact]:
    """Everything that a brief says and that can be stressed."""
    facts: list[Fact] = []
    for index, group in enumerate(brief.groups):
        if group.noun == words.TEXT:
            facts.append(("text", index))
        else:
            first = "count" if group.explicit else "object"
            facts += [(first, index), *((name, index) for name in group.attributes)]
            facts += [("object", index)] if first == "count" else []
    facts += [("relation", index) for index in range(len(brief.relations))]
    return facts + ([("background", 0)] if brief.background else [])


class _Reflector:
    def __init__(self, report: RoundReport) -> None:
        self._report = report
        self._brief = understand(report.user_prompt)
        self._record = Record()
        learn_lessons(self._record, report.lessons)
        self._record.learn(report.experiences)
        self._used = self._wordings_of(report.drawn_prompt)
        self._failed: dict[Fact, str] = {}
        self._impossible: list[str] = []
        for line in numbered(report.failed):
            question, _, evidence = line.partition("? - ")
            self._note_failure(question.strip() + "?" if evidence else line, evidence)

    def _wordings_of(self, prompt: str) -> dict[Fact, str]:
        """Which of our own sentences the drawn prompt carried."""
        used: dict[Fact, str] = {}
        added = prompt.strip().removeprefix(self._report.user_prompt.strip())
        for fact in all_facts(self._brief):
            for wording in wordings(self._brief, fact):
                if sentence(self._brief, fact, wording) in added:
                    used[fact] = wording
        return used

    def _note_failure(self, question: str, evidence: str) -> None:
        facts = facts_of(question, self._brief)
        if not facts:
            self._impossible.append(question)
        for kind, index in facts:
            if kind in ("object", "count"):
                self._failed.setdefault(self._diagnosed(kind, index, evidence), evidence or question)
            elif kind in ("text", "background") or not _ABSENT.search(evidence):
                # What is said of a thing that is not there fails along with it and needs no stress.
                self._failed.setdefault((kind, index), evidence or question)

    def _diagnosed(self, kind: str, index: int, evidence: str) -> Fact:
        """Whether things of a group are too many or too few, of another colour, or missing."""
        if re.search(r"\bsee no\b.*, but\b", evidence) and "colour" in self._brief.groups[index].attributes:
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
            fact for question in numbered(self._report.passed) for fact in facts_of(question, self._brief)
        }
        # A group that is there as asked has its colour and its presence too.
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
        """A wording for what failed, for what one holds up already, and for what experience warns of."""
        plan: dict[Fact, str] = {}
        for fact in all_facts(self._brief):
            best = self._best(fact)
            if fact in self._failed:
                plan[fact] = best
            elif fact in self._used:
                plan[fact] = self._used[fact]
            elif self._record.proven(fact[0], best):
                plan[fact] = best
        return plan

    def _best(self, fact: Fact) -> str:
        options = wordings(self._brief, fact)
        failed_with = self._used.get(fact) if fact in self._failed else None

        def worth(wording: str) -> tuple[float, int]:
            trust = self._record.trust(fact[0], wording)
            return trust - (_JUST_FAILED if wording == failed_with else 0.0), -options.index(wording)

        return max(options, key=worth)

    def _next_prompt(self, plan: dict[Fact, str]) -> str:
        lines = list(dict.fromkeys(sentence(self._brief, fact, wording) for fact, wording in plan.items()))
        user = self._report.user_prompt.strip()
        prompt = "\n".join([user, *lines])
        for closing in _CLOSINGS:
            if prompt.strip() not in ("", self._report.drawn_prompt.strip()):
                break
            prompt = "\n".join([user, *lines, closing])
        return prompt.strip()

    def _experience(self, outcomes: list[tuple[str, str, bool]]) -> str:
        sentences = [outcome(kind, wording, worked=worked) for kind, wording, worked in outcomes]
        missing = [f"{TOPICS[fact[0]]} ({_short(evidence)})" for fact, evidence in self._failed.items()]
        head = f"Failed: {'; '.join(missing[:3])}." if missing else "Nothing that can be stressed failed."
        if self._impossible:
            head += f" Not in reach of this world: {_short(self._impossible[0])}."
        text = head
        for line in sentences:
            if len(f"{text} {line}".split()) > MOST_WORDS:
                break
            text = f"{text} {line}"
        return text


def _short(text: str) -> str:
    parts = text.rstrip(".").split()
    return " ".join(parts[:12]) + ("…" if len(parts) > 12 else "")
