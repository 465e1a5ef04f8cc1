"""Cluster similar experiences of one generator and skill into lessons."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gems.memory.experience import indexed_text, no_record, now, shorten
from gems.types import RequirementKind, TrackRecord

MIN_SIMILARITY = 0.3
"""Minimum cosine similarity of an experience to the centroid of its cluster."""
_MIN_MEMBERS = 2
_MAX_MEMBERS = 20
_INDEXED = 5


@dataclass(frozen=True, slots=True)
class Cluster:
    """Keys and values of similar experiences, the one nearest to the centroid first."""

    keys: tuple[str, ...]
    values: tuple[Mapping[str, Any], ...]

    @property
    def name(self) -> str:
        """The lesson's key: the same for the same sources."""
        return hashlib.sha256(json.dumps(sorted(self.keys)).encode()).hexdigest()[:32]

    def kinds(self) -> list[RequirementKind]:
        """Return the kinds of requirements that failed in at least half of the experiences."""
        counts = Counter(kind for value in self.values for kind in failing_kinds(value))
        often = sorted(kind for kind, count in counts.items() if 2 * count >= len(self.values))
        return cast("list[RequirementKind]", often or sorted(counts))


def cluster_experiences(
    keys: Sequence[str], values: Sequence[Mapping[str, Any]], vectors: NDArray[np.float32]
) -> list[Cluster]:
    """Group similar experiences of one generator that share a skill and the kind of failure.

    The most frequent kind of failure decides the group, then each experience joins the most similar cluster
    or starts one. A cluster has two to twenty experiences. The order of the input does not matter. `vectors`
    are unit vectors, `[len(keys), dimensions]`.
    """
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index in sorted(range(len(keys)), key=lambda position: keys[position]):
        if not is_refuted(values[index]):
            for kind in failing_kinds(values[index])[:1]:
                groups[(kind, *sorted(values[index].get("skills") or ()))].append(index)
    return [
        Cluster(tuple(keys[p] for p in members), tuple(values[p] for p in members))
        for _, indices in sorted(groups.items())
        for members in _assign(indices, vectors)
        if len(members) >= _MIN_MEMBERS
    ]


def build_lesson(
    cluster: Cluster, text: str | None, generator: str, record: TrackRecord | None = None
) -> dict[str, Any]:
    """Build the lesson of a cluster, a `LessonEntry`; `text` defaults to that nearest to the centroid."""
    nearest = cluster.values[0]
    questions = [item["question"] for value in cluster.values[:_INDEXED] for item in value["failed"]]
    prompts = "\n".join(value["prompt"] for value in cluster.values[:_INDEXED])
    return {
        "generator": generator,
        "skills": list(nearest.get("skills") or ()),
        "kinds": cluster.kinds(),
        "text": shorten(text or nearest["text"]),
        "sources": [[value["run"], value["round"]] for value in cluster.values],
        "by": "model" if text else "medoid",
        "at": now(),
        "record": record or no_record(),
        "text_indexed": indexed_text(prompts, dict.fromkeys(questions)),
    }


def replaced_lessons(cluster: Cluster, lessons: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the keys of the lessons whose sources are mostly in the cluster, which replaces them."""
    own = {(value["run"], value["round"]) for value in cluster.values}
    sources = {key: {tuple(source) for source in lesson["sources"]} for key, lesson in lessons.items()}
    return [key for key, known in sources.items() if key != cluster.name and 2 * len(known & own) > len(known)]


def is_refuted(value: Mapping[str, Any]) -> bool:
    """Return whether an experience or a lesson clearly did not help when it was shown."""
    record = value.get("record") or no_record()
    return bool(record["hurt"] > record["helped"] + 1)


def failing_kinds(value: Mapping[str, Any]) -> list[str]:
    """Return the kinds of failed requirements, the most frequent first."""
    counts = Counter(item["kind"] for item in value["failed"])
    return sorted(counts, key=lambda kind: (-counts[kind], kind))


def _assign(indices: Sequence[int], vectors: NDArray[np.float32]) -> list[list[int]]:
    """Assign each index to the cluster with the nearest centroid, or a new one; members by closeness."""
    # One row per cluster: the sum of its vectors, and the same at length 1; rows are added on demand.
    sums = np.zeros((16, vectors.shape[1]), dtype=np.float32)
    centroids = np.zeros_like(sums)
    members: list[list[int]] = []
    has_room = np.zeros(len(sums), dtype=bool)
    for index in indices:
        near = np.where(has_room, centroids @ vectors[index], -1.0)
        best = int(near.argmax())
        if near[best] < MIN_SIMILARITY:
            best = len(members)
            members.append([])
            if best == len(sums):
                sums, centroids = (np.concatenate([rows, np.zeros_like(rows)]) for rows in (sums, centroids))
                has_room = np.concatenate([has_room, np.zeros_like(has_room)])
        members[best].append(index)
        sums[best] += vectors[index]
        centroids[best] = sums[best] / max(float(np.linalg.norm(sums[best])), 1e-12)
        has_room[best] = len(members[best]) < _MAX_MEMBERS
    return [
        sorted(group, key=lambda index: -float(vectors[index] @ total))
        for group, total in zip(members, sums, strict=False)
    ]
