"""Build lessons from the store's experiences, and delete lessons without sources."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from langgraph.store.base import Op, PutOp

from gems.errors import ProviderError
from gems.memory.clustering import Cluster, build_lesson, cluster_experiences, replaced_lessons, sum_records
from gems.memory.experience import EXPERIENCES, LESSONS, experience_key
from gems.memory.retrieval import text_with_outcome
from gems.memory.store import ChromaStore
from gems.memory_reports import ConsolidationReport
from gems.models.chat.client import ChatClient
from gems.models.schemas import ExperienceReply
from gems.nodes.prompts import numbered, question

Values = Mapping[str, Mapping[str, Any]]
_DELETE_BATCH = 200
_MAX_GENERATORS = 10_000


class Distiller:
    """Lets a chat model write lessons.

    Attributes:
        faults: The error message of each failure.
    """

    def __init__(self, client: ChatClient) -> None:
        self._client = client
        self.faults: list[str] = []

    async def write(self, cluster: Cluster) -> str | None:
        """Write the lesson of a cluster; None if the model gives no usable answer."""
        experiences = numbered(text_with_outcome(dict(value)) for value in cluster.values)
        try:
            reply = await self._client.ask(question("distil", {"experiences": experiences}))
        except ProviderError as error:
            self.faults.append(str(error))
            return None
        return reply.form(ExperienceReply).experience.strip() or None


async def consolidate(
    store: ChromaStore, distiller: Distiller | None, progress: Callable[[int, int], None] | None = None
) -> ConsolidationReport:
    """Build a lesson from each cluster of similar experiences; without new experiences nothing changes.

    A lesson is written before the lessons that it replaces are deleted, so that a process that dies in
    between loses none; the next consolidation deletes the rest.

    Args:
        store: Has the experiences and lessons.
        distiller: Writes the lessons; None for the text of the experience nearest to the centroid.
        progress: Called with the number of clusters of a generator that are done, and their total.
    """
    count, lessons, added, removed = 0, 0, 0, 0
    for namespace in await store.alist_namespaces(prefix=(EXPERIENCES,), limit=_MAX_GENERATORS):
        clusters, experiences = await _find_clusters(store, namespace)
        count += len(experiences)
        lesson_space = (LESSONS, *namespace[1:])
        known = {item.key: item.value for item in await store.items(lesson_space)}
        for number, cluster in enumerate(clusters, 1):
            if cluster.name not in known:
                await store.abatch([await _lesson_put(lesson_space, cluster, known, distiller)])
                added += 1
            if progress is not None:
                progress(number, len(clusters))
        stale = known.keys() - {cluster.name for cluster in clusters} - _imported(known, experiences)
        gone: list[Op] = [PutOp(lesson_space, key, None) for key in sorted(stale)]
        for start in range(0, len(gone), _DELETE_BATCH):
            await store.abatch(gone[start : start + _DELETE_BATCH])
        removed += len(stale)
    for space in await store.alist_namespaces(prefix=(LESSONS,), limit=_MAX_GENERATORS):
        lessons += await store.count(space)
    faults = distiller.faults if distiller else []
    return ConsolidationReport(
        experiences=count, lessons=lessons, added=added, removed=removed, unwritten=faults
    )


async def _find_clusters(store: ChromaStore, namespace: tuple[str, ...]) -> tuple[list[Cluster], Values]:
    keys, vectors = await store.vectors(namespace)
    # Read after their vectors; items added or deleted meanwhile are left for the next time.
    items = {item.key: item.value for item in await store.items(namespace)}
    positions = [number for number, key in enumerate(keys) if key in items]
    kept = [keys[number] for number in positions]
    values = [items[key] for key in kept]
    # Ten thousand take a second, in which other runs of this process must not block.
    clusters = await asyncio.to_thread(cluster_experiences, kept, values, vectors[positions])
    return clusters, dict(zip(kept, values, strict=True))


async def _lesson_put(
    space: tuple[str, ...], cluster: Cluster, known: Values, distiller: Distiller | None
) -> PutOp:
    record = sum_records([known[key]["record"] for key in replaced_lessons(cluster, known)])
    text = await distiller.write(cluster) if distiller else None
    lesson = build_lesson(cluster, text, str(cluster.values[0]["generator"]), record)
    return PutOp(space, cluster.name, dict(lesson))


def _imported(lessons: Values, experiences: Values) -> set[str]:
    """Return lessons that were imported without their experiences; those are kept."""
    return {
        key
        for key, lesson in lessons.items()
        if not any(experience_key(run, number) in experiences for run, number in lesson["sources"])
    }
