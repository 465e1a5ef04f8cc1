"""Draft a skill from lessons: a rule with its figures per wording that worked or failed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from gems.models.blocks.lessons import HELD, is_reliable, learn_line
from gems.models.blocks.prompt_spec import parse_numbered, parse_prompt
from gems.models.blocks.reflector import list_facts
from gems.models.blocks.wordings import TOPICS, Record, list_wordings, write_outcomes, write_sentence
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
"""Kind of fact -> skill name."""
_NOTHING = "drawing-shapes"
_EXAMPLE = parse_prompt('six small red circles above a striped blue square, the word "GO", a pink background')
_HEADING = re.compile(r"^#\s+(.+?)\s*#*$", re.MULTILINE)
_OWN_SECTION = re.compile(rf"^{re.escape(SECTION)}[ \t]*$.*?(?=^##? |\Z)", re.MULTILINE | re.DOTALL)
Key = tuple[str, str]
"""Kind of fact and wording."""


@dataclass
class _Evidence:
    """Combined evidence of all lessons."""

    record: Record = field(default_factory=Record)
    held: Counter[Key] = field(default_factory=Counter)
    used: Counter[Key] = field(default_factory=Counter)
    lessons: int = 0
    kept: list[str] = field(default_factory=list)
    """Rules of an earlier draft that these lessons do not cover, verbatim."""
    silent: int = 0
    """Lessons without wordings, or that failed more often than they held."""

    def take(self, line: str) -> None:
        """Add a lesson."""
        one = Record()
        if is_reliable(line):
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
        """Keep rules of an earlier draft, except those for which the lessons have newer figures."""
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
        """Return the known wordings, most frequent first."""
        worked, failed = self.record.worked, self.record.failed
        return sorted({*worked, *failed}, key=lambda key: (-worked[key] - failed[key], key))

    def kinds(self) -> list[str]:
        """Return the known kinds of facts, most frequent first."""
        seen: Counter[str] = Counter()
        for counted in (self.record.worked, self.record.failed):
            for (kind, _), times in counted.items():
                seen[kind] += times
        return sorted(seen, key=lambda kind: (-seen[kind], kind))

    def helped(self, kind: str) -> bool:
        """Whether a wording for a kind of fact worked more often than not."""
        worked, failed = self.record.worked, self.record.failed
        return any(key[0] == kind and worked[key] > failed[key] for key in worked)


def draft_skill(skill: str, lessons: str) -> DraftReply:
    """Draft a skill from numbered lessons, or amend the guidance `skill`, empty for a new one."""
    evidence, skill = _Evidence(), "" if skill.strip() == "(none)" else skill.strip()
    for line in parse_numbered(lessons):
        evidence.take(line)
    told = evidence.rules()
    for section in _OWN_SECTION.findall(skill):
        evidence.keep(section)
    kinds = evidence.kinds()
    name = _make_slug(skill) or _NAMES.get(kinds[0] if kinds else "", _NOTHING)
    useful = [kind for kind in kinds if evidence.helped(kind)]
    section = f"{SECTION}\n\n{_format_rules(evidence, told)}"
    head = (
        _OWN_SECTION.sub("", skill).strip()
        if skill
        else f"# {_format_title(name)}\n\n{_format_purpose(useful)}"
    )
    return DraftReply(
        name=name, description=_format_description(useful), body=f"{head}\n\n{section}\n".lstrip()
    )


def _format_rules(evidence: _Evidence, told: list[Key]) -> str:
    lines = [f"- {_format_rule(evidence, key)}" for key in told] + evidence.kept
    if not evidence.lessons:
        lines.append("- There were no lessons.")
    if evidence.silent:
        lines.append(
            f"- {evidence.silent} of {evidence.lessons} lessons told of no wording that can be used."
        )
    return "\n".join(lines)


def _format_rule(evidence: _Evidence, key: Key) -> str:
    worked, failed = evidence.record.worked[key], evidence.record.failed[key]
    text = write_outcomes(*key, worked, failed)
    if evidence.used[key]:
        text += f" Lessons that say so held {evidence.held[key]} of {evidence.used[key]} times."
    for example in _find_examples(key):
        text += f" {'For example' if worked >= failed else 'Do not rely on'}: `{example}`"
    return text


def _find_examples(key: Key) -> Iterator[str]:
    kind, wording = key
    fact = next((fact for fact in list_facts(_EXAMPLE) if fact[0] == kind), None)
    if fact is not None and wording in list_wordings(_EXAMPLE, fact):
        yield write_sentence(_EXAMPLE, fact, wording)


def _join_topics(kinds: list[str]) -> str:
    names = [TOPICS[kind] for kind in kinds]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _format_purpose(kinds: list[str]) -> str:
    if not kinds:
        return "No wording was found to work: leave the prompt as it is."
    return (
        f"How to state {_join_topics(kinds)} so that they are drawn as asked. Keep the prompt as it is, and "
        "behind it state each such fact once more in a wording that worked."
    )


def _format_description(kinds: list[str]) -> str:
    if not kinds:
        return "Of no use yet: the lessons told of no wording that worked."
    return (
        f"States {_join_topics(kinds)} in wordings that earlier runs found to work. For prompts with several "
        "such facts; not for plain ones."
    )


def _format_title(name: str) -> str:
    return name.replace("-", " ").capitalize()


def _make_slug(skill: str) -> str:
    """Convert the first heading to a name of at most three words; empty if there is none."""
    heading = _HEADING.search(skill)
    return "-".join(re.findall(r"[a-z0-9]+", heading[1].lower())[:3]) if heading else ""
