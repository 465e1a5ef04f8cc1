"""Group lessons of one kind that may be worth a skill."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from gems.memory.clustering import failing_kinds, is_refuted
from gems.memory.experience import experience_key, no_record
from gems.memory.retrieval import estimate_tokens, format_lesson, text_with_outcome, trust
from gems.types import Recalled, TrackRecord

_OTHER_KIND = "other"
_MAX_SHOWN = 40
_MAX_SHOWN_TOKENS = 4_000
"""Maximum tokens of the lessons of a group that are shown to a chat model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A lesson, or an experience without a lesson.

    Attributes:
        key: Its key in the store.
        generator: The image model.
        skills: Skills of its runs.
        kind: The main kind of requirement that it is about.
        text: On one line.
        record: Its track record.
        sources: Run and round of each experience behind it.
    """

    key: str
    generator: str
    skills: tuple[str, ...]
    kind: str
    text: str
    record: TrackRecord
    sources: tuple[tuple[str, int], ...]

    @property
    def line(self) -> str:
        """The text for a chat model."""
        return format_lesson(cast("Recalled", {"text": self.text, "record": self.record}))


@dataclass(frozen=True, slots=True, kw_only=True)
class LessonGroup:
    """Enough evidence for a skill, or for an amendment of one.

    Attributes:
        generator: The image model.
        skill: The skill of its runs; None if there was none.
        kinds: The kinds of requirements; a single one if there was no skill.
        evidence: The most trusted first.
    """

    generator: str
    skill: str | None
    kinds: tuple[str, ...]
    evidence: tuple[Evidence, ...]

    @property
    def stamp(self) -> str:
        """A hash of the evidence."""
        keys = json.dumps(sorted(item.key for item in self.evidence))
        return hashlib.sha256(keys.encode()).hexdigest()[:16]

    def shown(self) -> list[Evidence]:
        """Return the best lessons that fit into a question."""
        chosen: list[Evidence] = []
        room = _MAX_SHOWN_TOKENS
        for item in self.evidence[:_MAX_SHOWN]:
            room -= estimate_tokens(item.line)
            if room < 0:
                break
            chosen.append(item)
        return chosen


def collect_evidence(
    lessons: Mapping[str, Mapping[str, Any]], experiences: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Evidence], int]:
    """Return lessons and experiences (both by key) as evidence, and the number of refuted ones left out."""
    covered = {experience_key(*source) for lesson in lessons.values() for source in lesson["sources"]}
    alone = {key: value for key, value in experiences.items() if key not in covered}
    found = [_of_lesson(key, value, experiences) for key, value in lessons.items() if not is_refuted(value)]
    found += [_of_experience(key, value) for key, value in alone.items() if not is_refuted(value)]
    return found, len(lessons) + len(alone) - len(found)


def group_evidence(
    evidence: Sequence[Evidence], least: int, learnt: Mapping[tuple[str, str], str]
) -> list[LessonGroup]:
    """Return groups of at least `least` pieces of evidence, the largest first.

    A skill is amended by all kinds of which there is enough. What was made with several skills counts for
    each of them.

    Args:
        evidence: What there is.
        least: Minimum number for one generator, skill and kind.
        learnt: Generator and kind -> the skill that was drafted from such evidence and is in use now.
    """
    groups: dict[tuple[str, str | None, str], list[Evidence]] = defaultdict(list)
    for item in evidence:
        for skill in item.skills or (learnt.get((item.generator, item.kind)),):
            groups[(item.generator, skill, item.kind)].append(item)
    joined: dict[tuple[str, str | None, str], list[tuple[str, list[Evidence]]]] = defaultdict(list)
    for (generator, skill, kind), items in groups.items():
        if len(items) >= least:
            joined[(generator, skill, "" if skill else kind)].append((kind, items))
    found = [
        LessonGroup(
            generator=generator,
            skill=skill,
            kinds=tuple(sorted(kind for kind, _ in parts)),
            evidence=tuple(sorted((item for _, items in parts for item in items), key=_evidence_rank)),
        )
        for (generator, skill, _), parts in joined.items()
    ]
    return sorted(
        found, key=lambda group: (-len(group.evidence), group.generator, group.skill or "", group.kinds)
    )


def _evidence_rank(item: Evidence) -> tuple[float, int, str]:
    return -trust(item.record), -len(item.sources), item.key


def _of_lesson(key: str, value: Mapping[str, Any], experiences: Mapping[str, Mapping[str, Any]]) -> Evidence:
    sources = [(str(run), int(number)) for run, number in value["sources"]]
    known = [experiences[name] for source in sources if (name := experience_key(*source)) in experiences]
    counts = Counter(kind for source in known for kind in failing_kinds(source)[:1])
    mostly = [kind for kind, _ in counts.most_common(1)] or list(value["kinds"])
    return _evidence(key, value, mostly, str(value["text"]), sources)


def _of_experience(key: str, value: Mapping[str, Any]) -> Evidence:
    source = (str(value["run"]), int(value["round"]))
    return _evidence(key, value, failing_kinds(value), text_with_outcome(dict(value)), [source])


def _evidence(
    key: str, value: Mapping[str, Any], kinds: list[str], text: str, sources: list[tuple[str, int]]
) -> Evidence:
    return Evidence(
        key=key,
        generator=str(value["generator"]),
        skills=tuple(dict.fromkeys(map(str, value.get("skills") or ()))),
        kind=kinds[0] if kinds else _OTHER_KIND,
        text=" ".join(text.split()),
        record=value.get("record") or no_record(),
        sources=tuple(sources),
    )
