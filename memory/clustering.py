"""Lessons: what similar experiences of one generator and skill have in common."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gems.memory.experience import Lesson, indexed_text, no_record, now, shortened
from gems.types import RequirementKind, TrackRecord

ALIKE = 0.3
"""Least cosine similarity of an experience to the middle of its cluster."""
_LEAST = 2
_MOST = 20
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Cluster:
    """Experiences that are alike.

    Attributes:
        keys: Of the experiences, the one nearest to the middle first.
        values: Theirs, in the same order.
    """

    keys: tuple[str, ...]
    values: tuple[Mapping[str, Any], ...]

    @property
    def name(self) -> str:
        """The lesson's key: the same for the same sources."""
        return hashlib.sha256(json.dumps(sorted(self.keys)).encode()).hexdigest()[:32]

    def kinds(self) -> list[RequirementKind]:
        """Kinds of requirements that failed in at least half of the experiences."""
        counts = Counter(kind for value in self.values for kind in failing_kinds(value))
        often = sorted(kind for kind, count in counts.items() if 2 * count >= len(self.values))
        return cast("list[RequirementKind]", often or sorted(counts))


def clusters(
    keys: Sequence[str], values: Sequence[Mapping[str, Any]], vectors: NDArray[np.float32]
) -> list[Cluster]:
    """Groups of at least two and at most twenty alike experiences of one skill that share what failed.

    The greatest kind of failure decides the group, then each experience joins the most similar cluster or
    begins one. The order of the input decides nothing.

    Args:
        keys: Of the experiences of one generator.
        values: Theirs.
        vectors: Unit vectors, `[len(keys), dimensions]`.
    """
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place in sorted(range(len(keys)), key=lambda index: keys[index]):
        if not is_refuted(values[place]):
            for kind in failing_kinds(values[place])[:1]:
                groups[(kind, *sorted(values[place].get("skills") or ()))].append(place)
    found = []
    for _, places in sorted(groups.items()):
        for members in _clustered(places, vectors):
            if len(members) >= _LEAST:
                found.append(Cluster(tuple(keys[p] for p in members), tuple(values[p] for p in members)))
    return found


def lesson_of(
    cluster: Cluster, text: str | None, generator: str, record: TrackRecord | None = None
) -> Lesson:
    """The lesson of a cluster.

    Args:
        cluster: Its experiences.
        text: What a chat model wrote; the middle experience's text where there is none.
        generator: Whose lesson it is.
        record: The track record of the lesson that it takes the place of.
    """
    middle = cluster.values[0]
    questions = [item["question"] for value in cluster.values[:_SHOWN] for item in value["failed"]]
    prompts = "\n".join(value["prompt"] for value in cluster.values[:_SHOWN])
    return {
        "generator": generator,
        "skills": list(middle.get("skills") or ()),
        "kinds": cluster.kinds(),
        "text": shortened(text or middle["text"]),
        "sources": [[value["run"], value["round"]] for value in cluster.values],
        "by": "model" if text else "medoid",
        "at": now(),
        "record": record or no_record(),
        "text_indexed": indexed_text(prompts, dict.fromkeys(questions)),
    }


def replaced(cluster: Cluster, lessons: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Keys of the lessons whose sources are mostly in the cluster: it takes their place."""
    own = {(value["run"], value["round"]) for value in cluster.values}
    found = []
    for key, lesson in lessons.items():
        sources = {tuple(source) for source in lesson["sources"]}
        if key != cluster.name and 2 * len(sources & own) > len(sources):
            found.append(key)
    return found


def summed(records: Sequence[TrackRecord]) -> TrackRecord:
    """Track records added up."""
    return {
        "shown": sum(record["shown"] for record in records),
        "helped": sum(record["helped"] for record in records),
        "hurt": sum(record["hurt"] for record in records),
    }


def is_refuted(value: Mapping[str, Any]) -> bool:
    """Whether an experience or a lesson, where it was shown, clearly did not help."""
    record = value.get("record") or no_record()
    return bool(record["hurt"] > record["helped"] + 1)


def failing_kinds(value: Mapping[str, Any]) -> list[str]:
    """What failed, the most frequent kind first."""
    counts = Counter(item["kind"] for item in value["failed"])
    return sorted(counts, key=lambda kind: (-counts[kind], kind))


def _clustered(places: Sequence[int], vectors: NDArray[np.float32]) -> list[list[int]]:
    """Each place joins the cluster whose middle is nearest, or begins one; the middlemost come first."""
    # One row per cluster: the sum of its vectors, and the same at length 1; room is made as it is needed.
    sums = np.zeros((16, vectors.shape[1]), dtype=np.float32)
    middles = np.zeros_like(sums)
    members: list[list[int]] = []
    is_open = np.zeros(len(sums), dtype=bool)
    for place in places:
        near = np.where(is_open, middles @ vectors[place], -1.0)
        best = int(near.argmax())
        if near[best] < ALIKE:
            best = len(members)
            members.append([])
            if best == len(sums):
                sums, middles = (np.concatenate([rows, np.zeros_like(rows)]) for rows in (sums, middles))
                is_open = np.concatenate([is_open, np.zeros_like(is_open)])
        members[best].append(place)
        sums[best] += vectors[place]
        middles[best] = sums[best] / max(float(np.linalg.norm(sums[best])), 1e-12)
        is_open[best] = len(members[best]) < _MOST
    return [
        sorted(group, key=lambda place: -float(vectors[place] @ total))
        for group, total in zip(members, sums, strict=False)
    ]
