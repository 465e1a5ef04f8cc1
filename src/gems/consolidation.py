"""Draw lessons from the store's experiences, and take away those that rest on nothing anymore."""

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
_BATCH = 200
_MOST_GENERATORS = 10_000


class Distiller:
    """Has a chat model write lessons.

    Args:
        client: The model.

    Attributes:
        faults: Why it wrote none, once per failure.
    """

    def __init__(self, client: ChatClient) -> None:
        self._client = client
        self.faults: list[str] = []

    async def write(self, cluster: Cluster) -> str | None:
        """The lesson of a cluster; None where the model does not answer usably."""
        told = numbered(text_with_outcome(dict(value)) for value in cluster.values)
        try:
            reply = await self._client.ask(question("distil", {"experiences": told}))
        except ProviderError as error:
            self.faults.append(str(error))
            return None
        return reply.form(ExperienceReply).experience.strip() or None


async def consolidate(
    store: ChromaStore, distiller: Distiller | None, progress: Callable[[int, int], None] | None = None
) -> ConsolidationReport:
    """Draw a lesson from each cluster of similar experiences; nothing changes where nothing is new.

    A lesson is written before those that it takes the place of go, so that a process which dies between the
    two loses none; the next consolidation takes away the rest.

    Args:
        store: Holds experiences and lessons.
        distiller: Writes the lessons; the middle experiences speak where there is none.
        progress: Told how many clusters of a generator are done, of how many.

    Raises:
        ConfigurationError: the chat model's key is not accepted.
        StorageError: the store cannot be used.
    """
    looked, lessons, added, removed = 0, 0, 0, 0
    for place in await store.alist_namespaces(prefix=(EXPERIENCES,), limit=_MOST_GENERATORS):
        found, experiences = await _found(store, place)
        looked += len(experiences)
        space = (LESSONS, *place[1:])
        known = {item.key: item.value for item in await store.items(space)}
        for number, cluster in enumerate(found, 1):
            if cluster.name not in known:
                await store.abatch([await _put(space, cluster, known, distiller)])
                added += 1
            if progress is not None:
                progress(number, len(found))
        stale = known.keys() - {cluster.name for cluster in found} - _foreign(known, experiences)
        gone: list[Op] = [PutOp(space, key, None) for key in sorted(stale)]
        for start in range(0, len(gone), _BATCH):
            await store.abatch(gone[start : start + _BATCH])
        removed += len(stale)
    for space in await store.alist_namespaces(prefix=(LESSONS,), limit=_MOST_GENERATORS):
        lessons += await store.count(space)
    faults = distiller.faults if distiller else []
    return ConsolidationReport(
        experiences=looked, lessons=lessons, added=added, removed=removed, unwritten=faults
    )


async def _found(store: ChromaStore, place: tuple[str, ...]) -> tuple[list[Cluster], Values]:
    keys, vectors = await store.vectors(place)
    # Read after their vectors; what came or went meanwhile waits for the next time.
    items = {item.key: item.value for item in await store.items(place)}
    there = [number for number, key in enumerate(keys) if key in items]
    kept = [keys[number] for number in there]
    values = [items[key] for key in kept]
    # Ten thousand take a second, in which runs of this process are to go on.
    found = await asyncio.to_thread(cluster_experiences, kept, values, vectors[there])
    return found, dict(zip(kept, values, strict=True))


async def _put(space: tuple[str, ...], cluster: Cluster, known: Values, distiller: Distiller | None) -> PutOp:
    record = sum_records([known[key]["record"] for key in replaced_lessons(cluster, known)])
    text = await distiller.write(cluster) if distiller else None
    lesson = build_lesson(cluster, text, str(cluster.values[0]["generator"]), record)
    return PutOp(space, cluster.name, dict(lesson))


def _foreign(lessons: Values, experiences: Values) -> set[str]:
    """Lessons that were imported without the experiences they rest on: those are nobody's to remove."""
    return {
        key
        for key, lesson in lessons.items()
        if not any(experience_key(run, number) in experiences for run, number in lesson["sources"])
    }
