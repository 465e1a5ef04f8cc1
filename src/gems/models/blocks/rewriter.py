"""A skill written from lessons: which wordings worked, which did not, each as a rule with its figures."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from gems.models.blocks.asking import numbered
from gems.models.blocks.lessons import HELD, learn_line, relied_on
from gems.models.blocks.prompt_spec import understand
from gems.models.blocks.reflector import all_facts
from gems.models.blocks.wordings import TOPICS, Record, outcomes, sentence, wordings
from gems.models.schemas import DraftReply

SECTION = "## Rules from lessons"
_NAMES = {
    "object": "showing-everything",
    "count": "counting-shapes",
    "colour": "keeping-colours",
    "size": "keeping-sizes",
    "texture": "keeping-textures",
    "relation": "spatial-placing",
    "text": "spelling-text",
    "background": "keeping-backgrounds",
}
"""Kind of fact -> name of a skill about it."""
_NOTHING = "drawing-shapes"
_EXAMPLE = understand('six small red circles above a striped blue square, the word "GO", a pink background')
_HEADING = re.compile(r"^#\s+(.+?)\s*#*$", re.MULTILINE)
_OWN_SECTION = re.compile(rf"^{re.escape(SECTION)}[ \t]*$.*?(?=^##? |\Z)", re.MULTILINE | re.DOTALL)
Key = tuple[str, str]
"""Kind of fact and wording."""


@dataclass
class _Evidence:
    """What all lessons say together."""

    record: Record = field(default_factory=Record)
    held: Counter[Key] = field(default_factory=Counter)
    used: Counter[Key] = field(default_factory=Counter)
    lessons: int = 0
    kept: list[str] = field(default_factory=list)
    """Rules of an earlier draft on which these lessons are silent, as they stand there."""
    silent: int = 0
    """Lessons that say nothing of wordings, or that failed more often than they held."""

    def take(self, line: str) -> None:
        """Take in a lesson."""
        one = Record()
        if relied_on(line):
            learn_line(one, line)
        self.lessons += 1
        keys = {*one.worked, *one.failed}
        self.silent += not keys
        self.record.worked.update(one.worked)
        self.record.failed.update(one.failed)
        if match := HELD.match(line):
            self.held.update(dict.fromkeys(keys, int(match[1])))
            self.used.update(dict.fromkeys(keys, int(match[2])))

    def keep(self, section: str) -> None:
        """Take over the rules of an earlier draft, but none that the lessons know better figures for."""
        known = set(self.rules())
        for line in section.splitlines():
            one = Record()
            one.learn(line)
            keys = {*one.worked, *one.failed}
            if keys and not keys & known:
                self.kept.append(line)
                self.record.worked.update(one.worked)
                self.record.failed.update(one.failed)

    def rules(self) -> list[Key]:
        """What is told of, what was seen most often first."""
        worked, failed = self.record.worked, self.record.failed
        return sorted({*worked, *failed}, key=lambda key: (-worked[key] - failed[key], key))

    def kinds(self) -> list[str]:
        """The same without wordings."""
        seen: Counter[str] = Counter()
        for counted in (self.record.worked, self.record.failed):
            for (kind, _), times in counted.items():
                seen[kind] += times
        return sorted(seen, key=lambda kind: (-seen[kind], kind))

    def helped(self, kind: str) -> bool:
        """Whether some wording for a kind of fact worked more often than not."""
        worked, failed = self.record.worked, self.record.failed
        return any(key[0] == kind and worked[key] > failed[key] for key in worked)


def drafted(skill: str, lessons: str) -> DraftReply:
    """A new skill from numbered lessons, or the amended guidance of one that is given.

    Args:
        skill: The guidance of the skill that is to be amended; empty for a new one.
        lessons: Numbered lines, each with what came of it before.
    """
    evidence, skill = _Evidence(), "" if skill.strip() == "(none)" else skill.strip()
    for line in numbered(lessons):
        evidence.take(line)
    told = evidence.rules()
    for section in _OWN_SECTION.findall(skill):
        evidence.keep(section)
    kinds = evidence.kinds()
    name = _slug(skill) or _NAMES.get(kinds[0] if kinds else "", _NOTHING)
    useful = [kind for kind in kinds if evidence.helped(kind)]
    section = f"{SECTION}\n\n{_rules(evidence, told)}"
    head = _OWN_SECTION.sub("", skill).strip() if skill else f"# {_title(name)}\n\n{_purpose(useful)}"
    return DraftReply(name=name, description=_description(useful), body=f"{head}\n\n{section}\n".lstrip())


def _rules(evidence: _Evidence, told: list[Key]) -> str:
    lines = [f"- {_rule(evidence, key)}" for key in told] + evidence.kept
    if not evidence.lessons:
        lines.append("- There were no lessons.")
    if evidence.silent:
        lines.append(
            f"- {evidence.silent} of {evidence.lessons} lessons told of no wording that can be used."
        )
    return "\n".join(lines)


def _rule(evidence: _Evidence, key: Key) -> str:
    worked, failed = evidence.record.worked[key], evidence.record.failed[key]
    text = outcomes(*key, worked, failed)
    if evidence.used[key]:
        text += f" Lessons that say so held {evidence.held[key]} of {evidence.used[key]} times."
    for example in _examples(key):
        text += f" {'For example' if worked >= failed else 'Do not rely on'}: `{example}`"
    return text


def _examples(key: Key) -> Iterator[str]:
    kind, wording = key
    fact = next((fact for fact in all_facts(_EXAMPLE) if fact[0] == kind), None)
    if fact is not None and wording in wordings(_EXAMPLE, fact):
        yield sentence(_EXAMPLE, fact, wording)


def _topics(kinds: list[str]) -> str:
    names = [TOPICS[kind] for kind in kinds]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _purpose(kinds: list[str]) -> str:
    if not kinds:
        return "No wording was found to work: leave the prompt as it is."
    return (
        f"How to state {_topics(kinds)} so that they are drawn as asked. Keep the prompt as it is, and "
        "behind it state each such fact once more in a wording that worked."
    )


def _description(kinds: list[str]) -> str:
    if not kinds:
        return "Of no use yet: the lessons told of no wording that worked."
    return (
        f"States {_topics(kinds)} in wordings that earlier runs found to work. For prompts with several such "
        "facts; not for plain ones."
    )


def _title(name: str) -> str:
    return name.replace("-", " ").capitalize()


def _slug(skill: str) -> str:
    """The first heading as a name of at most three words; empty where there is none."""
    heading = _HEADING.search(skill)
    return "-".join(re.findall(r"[a-z0-9]+", heading[1].lower())[:3]) if heading else ""
