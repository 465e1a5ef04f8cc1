"""Reflect on a round: wordings that stress facts, what failed, lessons."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from gems.models.blocks import vocabulary as words
from gems.models.blocks.prompt_spec import Fact, PromptSpec, find_facts, parse_numbered, parse_prompt, phrase, quoted

TOPICS = {kind: f"{kind}s" for kind in ("count", "colour", "size", "texture", "background")} | {
    "object": "presence",
    "relation": "positions",
    "text": "lettering",
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
_FAILURES_WEIGH = 4
"""Most facts succeed with any wording, so a failure is stronger evidence than a success."""
MOST_WORDS = 100
_HELD = re.compile(r"\[held (\d{1,6}) of (\d{1,6}) times\]")
_SEQUEL = re.compile(r'Then drawn: "(.*)"\. Then met: (.*)\. Still failed: (.*?)\.?$')
_FAILED = re.compile(r"Failed: ([a-z]+) \(|; ([a-z]+) \(")
_ABSENT = re.compile(r"\b(?:see no|do not see|makes no sense without)\b", re.IGNORECASE)
_JUST_FAILED = 0.25
"""Penalty of a wording that has just failed: an untried one is preferred, unless it is well proven."""
_CLOSINGS = ("Draw it carefully.", "Check every detail.", "Leave nothing out.")


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
        verb = "are" if spec.groups[relation.subject].many else "is"
        return f"the {subject} {verb} {relation.name} the {target}"
    group, name = spec.groups[index], phrase(spec, index)
    verb = "are" if group.many else "is"
    if kind == "text" and group.count:
        return f"the word {quoted(group.word)}"
    if kind in ("size", "texture"):
        return f"the {name} {verb} {group.attributes[kind]}"
    if kind == "colour":
        return f"the colour of the {name} is {group.attributes[kind]}"
    amount = _write_amount(spec, index)
    return f"{amount} altogether" if kind == "count" else f"there {verb} {amount}"


def _write_amount(spec: PromptSpec, index: int) -> str:
    group, name = spec.groups[index], phrase(spec, index)
    if group.count is None:
        return f"the {name}"
    if group.count == 0:
        return f"no {name}"
    if group.count == 1 and not group.explicit:
        return words.with_article(name)
    return f"{words.number_word(group.count)} {name}"


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

    def known(self) -> list[tuple[str, str]]:
        """Return the known kinds and wordings, most frequent first."""
        return sorted({*self.worked, *self.failed}, key=lambda key: (-self.worked[key] - self.failed[key], key))

    def helped(self, kind: str) -> bool:
        """Whether a wording for a kind of fact worked more often than not."""
        return any(key[0] == kind and self.worked[key] > self.failed[key] for key in self.worked)

    def proven(self, kind: str, wording: str) -> bool:
        """Whether it worked often enough to be used before a failure."""
        return self.worked[kind, wording] >= 3 and self.trust(kind, wording) >= 0.75


def write_outcome(kind: str, wording: str, *, worked: bool) -> str:
    """Write the sentence of an experience that `Record.learn` parses."""
    return f'For {TOPICS[kind]}, the wording "{wording}" {"worked" if worked else "did not work"}.'


def write_outcomes(kind: str, wording: str, worked: int, failed: int) -> str:
    """Write the outcome of several experiences, by majority."""
    said = write_outcome(kind, wording, worked=worked >= failed).rstrip(".")
    return f"{said} ({max(worked, failed)} of {worked + failed} times)."


def learn_lessons(record: Record, lessons: str) -> None:
    """Record numbered lessons, except those that failed more often than they held."""
    for line in parse_numbered(lessons) or lessons.splitlines():
        held = _HELD.match(line)
        if held is None or 2 * int(held[1]) >= int(held[2]):
            _learn_line(record, line)


def _learn_line(record: Record, line: str) -> None:
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
        _learn_line(record, line)
        failed.update(name for pair in _FAILED.findall(line) for name in pair if name)
    sentences = [write_outcomes(*key, record.worked[key], record.failed[key]) for key in record.known()]
    if failed:
        sentences.append(f"Often failed: {', '.join(name for name, _ in failed.most_common(3))}.")
    text = ""
    for sentence in sentences:
        if len(f"{text} {sentence}".split()) <= MOST_WORDS:
            text = f"{text} {sentence}".strip()
    return text or "Nothing that can be stressed was learnt."


@dataclass(frozen=True, slots=True)
class Reflection:
    """An experience of at most 100 words, and the complete next prompt."""

    experience: str
    prompt: str
    thought: str


def reflect_on_round(
    user_prompt: str,
    drawn_prompt: str = "",
    passed: str = "",
    failed: str = "",
    experiences: str = "",
    lessons: str = "",
    instructions: str = "",
) -> Reflection:
    """Summarise a round as an experience and write the next prompt; see `schemas.TASK_TAGS`."""
    spec, record, user = parse_prompt(user_prompt), Record(), user_prompt.strip()
    learn_lessons(record, lessons)
    record.learn(instructions)
    record.learn(experiences)
    used = _find_wordings(spec, drawn_prompt.strip().removeprefix(user))
    failures, impossible = _find_failures(spec, failed)
    outcomes = _list_outcomes(spec, used, passed, failures)
    for kind, wording, worked in outcomes:
        record.note(kind, wording, worked=worked)
    plan: dict[Fact, str] = {}
    for fact in list_facts(spec):
        best = _choose_wording(spec, record, fact, used.get(fact) if fact in failures else None)
        if fact in failures:
            plan[fact] = best
        elif fact in used:
            plan[fact] = used[fact]
        elif record.proven(fact[0], best):
            plan[fact] = best
    lines = list(dict.fromkeys(write_sentence(spec, fact, wording) for fact, wording in plan.items()))
    prompts = ("\n".join([user, *lines, *closing]) for closing in ((), *((one,) for one in _CLOSINGS)))
    prompt = next(text for text in prompts if text.strip() not in ("", drawn_prompt.strip()))
    chosen = ", ".join(f'"{wording}" for {TOPICS[fact[0]]}' for fact, wording in plan.items())
    return Reflection(
        _write_experience(outcomes, failures, impossible),
        prompt.strip(),
        f"{len(failures) + len(impossible)} of the questions failed. I stress with {chosen or 'nothing'}.",
    )


def write_instruction(user_prompt: str, fault: str) -> str:
    """Write what an editor is told for the failed questions in the lines of `fault`."""
    spec, asked = parse_prompt(user_prompt), []
    for line in filter(None, map(str.strip, fault.splitlines())):
        question = line[: line.find("?") + 1] or line
        clauses = [_write_wish(spec, fact) for fact in find_facts(question, spec)[:1]]
        asked += clauses or [f"the answer is yes: {question}"]
    told = " and ".join(dict.fromkeys(asked)) or "it shows all that the prompt asks for"
    return f"Change the picture so that {told.rstrip('.')}. Everything else stays as it is."


def _write_wish(spec: PromptSpec, fact: Fact) -> str:
    clause = write_clause(spec, fact)
    if fact[0] == "text":
        return f"it shows {clause}"
    return f"there are {clause}" if fact[0] == "count" else clause


def list_facts(spec: PromptSpec) -> list[Fact]:
    """List the facts of a spec that can be stressed."""
    facts: list[Fact] = []
    for index, group in enumerate(spec.groups):
        if group.count == 0:
            facts.append(("count", index))
        elif group.noun == words.TEXT:
            facts.append(("text", index))
        else:
            facts += [("count" if group.explicit else "object", index)]
            facts += [(name, index) for name in group.attributes]
            facts += [("object", index)] if group.explicit else []
    facts += [("relation", index) for index in range(len(spec.relations))]
    return facts + ([("background", 0)] if spec.background else [])


def _find_wordings(spec: PromptSpec, added: str) -> dict[Fact, str]:
    """Return the wordings in the sentences that were added to the user's prompt."""
    return {
        fact: wording
        for fact in list_facts(spec)
        for wording in list_wordings(spec, fact)
        if write_sentence(spec, fact, wording) in added
    }


def _find_failures(spec: PromptSpec, failed: str) -> tuple[dict[Fact, str], list[str]]:
    """Return failed facts with their evidence, and failed questions about no known fact."""
    failures: dict[Fact, str] = {}
    impossible = []
    for line in parse_numbered(failed):
        question, _, evidence = line.partition("? - ")
        question = question.strip() + "?" if evidence else line
        facts = find_facts(question, spec)
        if not facts:
            impossible.append(question)
        for kind, index in facts:
            diagnosed = _diagnose(spec, (kind, index), evidence)
            if diagnosed is not None:
                failures.setdefault(diagnosed, evidence or question)
    return failures, impossible


def _diagnose(spec: PromptSpec, fact: Fact, evidence: str) -> Fact | None:
    """Distinguish a wrong count from a wrong colour and from missing things; None if it needs no stress."""
    kind, index = fact
    absent = _ABSENT.search(evidence) is not None
    if kind not in ("object", "count"):
        # Properties of a missing thing fail with it.
        return None if absent and kind not in ("text", "background") else fact
    if re.search(r"\bsee no\b.*, but\b", evidence) and "colour" in spec.groups[index].attributes:
        return "colour", index
    return ("object", index) if absent else fact


def _list_outcomes(
    spec: PromptSpec, used: dict[Fact, str], passed: str, failures: dict[Fact, str]
) -> list[tuple[str, str, bool]]:
    """Return kind, wording and success of each fact that was stressed."""
    met = {fact for question in parse_numbered(passed) for fact in find_facts(question, spec)}
    # A correct group also has the correct colour and is present.
    met |= {(kind, i) for name, i in met if name in ("object", "count") for kind in ("object", "colour")}
    found = [
        (fact[0], wording, fact not in failures) for fact, wording in used.items() if fact in failures or fact in met
    ]
    return list(dict.fromkeys(found))


def _choose_wording(spec: PromptSpec, record: Record, fact: Fact, failed_with: str | None) -> str:
    """Return the most reliable wording, the first of several."""
    return max(
        list_wordings(spec, fact), key=lambda w: record.trust(fact[0], w) - (_JUST_FAILED if w == failed_with else 0.0)
    )


def _write_experience(outcomes: list[tuple[str, str, bool]], failures: dict[Fact, str], impossible: list[str]) -> str:
    missing = [f"{TOPICS[fact[0]]} ({_shorten(evidence)})" for fact, evidence in failures.items()]
    text = f"Failed: {'; '.join(missing[:3])}." if missing else "Nothing that can be stressed failed."
    if impossible:
        text += f" Not in reach of this world: {_shorten(impossible[0])}."
    for kind, wording, worked in outcomes:
        line = write_outcome(kind, wording, worked=worked)
        if len(f"{text} {line}".split()) > MOST_WORDS:
            break
        text = f"{text} {line}"
    return text


def _shorten(text: str) -> str:
    parts = text.rstrip(".").split()
    return " ".join(parts[:12]) + ("…" if len(parts) > 12 else "")
