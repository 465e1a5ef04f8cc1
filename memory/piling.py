"""Where lessons of one kind pile up, so that they may be worth a skill."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from gems.memory.clustering import failing_kinds, is_refuted
from gems.memory.experience import experience_key, no_record
from gems.memory.retrieval import tokens, told, trust, with_sequel
from gems.types import Recalled, TrackRecord

_OTHER = "other"
_MOST = 40
_TOKENS = 4_000
"""Lessons that a pile shows, and how many tokens they may have together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A lesson, or an experience that no lesson was drawn from.

    Attributes:
        key: Its key in the store.
        generator: Whose it is.
        skills: Skills that it was made with.
        kind: What it is mostly about.
        text: On one line.
        record: What came of it.
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
        """As a chat model is shown it."""
        return told(cast("Recalled", {"text": self.text, "record": self.record}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pile:
    """Enough evidence for a skill, or for an amendment of one.

    Attributes:
        generator: Whose it is.
        skill: The skill that it was made with; None where there was none.
        kinds: What it is about; a single kind where there was no skill.
        evidence: What has proven itself best first.
    """

    generator: str
    skill: str | None
    kinds: tuple[str, ...]
    evidence: tuple[Evidence, ...]

    @property
    def stamp(self) -> str:
        """The same for the same evidence."""
        keys = json.dumps(sorted(item.key for item in self.evidence))
        return hashlib.sha256(keys.encode()).hexdigest()[:16]

    def shown(self) -> list[Evidence]:
        """The best that fit into a question."""
        chosen: list[Evidence] = []
        room = _TOKENS
        for item in self.evidence[:_MOST]:
            room -= tokens(item.line)
            if room < 0:
                break
            chosen.append(item)
        return chosen


def evidence_of(
    lessons: Mapping[str, Mapping[str, Any]], experiences: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Evidence], int]:
    """What there is to learn from, and how many were left out since they did not hold.

    Args:
        lessons: By key.
        experiences: By key.
    """
    covered = {experience_key(*source) for lesson in lessons.values() for source in lesson["sources"]}
    alone = {key: value for key, value in experiences.items() if key not in covered}
    found = [_of_lesson(key, value, experiences) for key, value in lessons.items() if not is_refuted(value)]
    found += [_of_experience(key, value) for key, value in alone.items() if not is_refuted(value)]
    return found, len(lessons) + len(alone) - len(found)


def piles(evidence: Sequence[Evidence], least: int, learnt: Mapping[tuple[str, str], str]) -> list[Pile]:
    """Piles of at least `least`, the greatest first.

    A skill is amended by all kinds of which there is enough. What was made with several skills counts for
    each of them.

    Args:
        evidence: What there is.
        least: So many of one generator, skill and kind make a pile.
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
        Pile(
            generator=generator,
            skill=skill,
            kinds=tuple(sorted(kind for kind, _ in parts)),
            evidence=tuple(sorted((item for _, items in parts for item in items), key=_worth)),
        )
        for (generator, skill, _), parts in joined.items()
    ]
    return sorted(found, key=lambda pile: (-len(pile.evidence), pile.generator, pile.skill or "", pile.kinds))


def _worth(item: Evidence) -> tuple[float, int, str]:
    return -trust(item.record), -len(item.sources), item.key


def _of_lesson(key: str, value: Mapping[str, Any], experiences: Mapping[str, Mapping[str, Any]]) -> Evidence:
    sources = [(str(run), int(number)) for run, number in value["sources"]]
    known = [experiences[name] for source in sources if (name := experience_key(*source)) in experiences]
    counts = Counter(kind for source in known for kind in failing_kinds(source)[:1])
    mostly = [kind for kind, _ in counts.most_common(1)] or list(value["kinds"])
    return _evidence(key, value, mostly, str(value["text"]), sources)


def _of_experience(key: str, value: Mapping[str, Any]) -> Evidence:
    source = (str(value["run"]), int(value["round"]))
    return _evidence(key, value, failing_kinds(value), with_sequel(dict(value)), [source])


def _evidence(
    key: str, value: Mapping[str, Any], kinds: list[str], text: str, sources: list[tuple[str, int]]
) -> Evidence:
    return Evidence(
        key=key,
        generator=str(value["generator"]),
        skills=tuple(dict.fromkeys(map(str, value.get("skills") or ()))),
        kind=kinds[0] if kinds else _OTHER,
        text=" ".join(text.split()),
        record=value.get("record") or no_record(),
        sources=tuple(sources),
    )
