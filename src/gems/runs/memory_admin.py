"""`Gems.memory`: list, forget, consolidate, import, export, rebuild."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, cast

from langgraph.store.base import GetOp, Item, Op, PutOp, SearchItem
from pydantic import BaseModel, ConfigDict, Field

from gems.errors import OptionError, ProviderError, StorageError
from gems.memory.clustering import Cluster, build_lesson, cluster_experiences, replaced_lessons, sum_records
from gems.memory.experience import (
    EXPERIENCES,
    LESSONS,
    PendingOp,
    credit_ops,
    experience_key,
    experience_ops,
    memory_namespace,
    namespace,
)
from gems.memory.export import format_line, numbered_lines, read_line
from gems.memory.retrieval import text_with_outcome
from gems.memory.store import ChromaStore
from gems.models.chat.client import ChatClient
from gems.models.schemas import ExperienceReply
from gems.nodes.prompts import numbered, question
from gems.resources import Experiences, Resources
from gems.runs.fork import Graph, thread
from gems.runs.recovery import read_snapshot
from gems.types import Recall, RunRow, TrackRecord

Kind = Literal["experience", "lesson"]


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True)


class Memory(_Report):
    """An experience or a lesson."""

    kind: Kind
    key: str
    generator: str
    similarity: float | None = Field(None, description="Similarity to the search text; higher is better.")
    value: dict[str, Any]


class Forgotten(_Report):
    """Deleted experiences and lessons."""

    experiences: int
    lessons: int = Field(description="Lessons built from any of them.")
    pending: int = Field(description="Experiences that were not written yet.")
    done: bool = Field(description="False for a dry run.")


class ImportReport(_Report):
    """Result of an import."""

    added: int
    updated: int
    unchanged: int
    faults: list[tuple[int, str]] = Field(description="Line number from 1, and what is wrong with the line.")


class ConsolidationReport(_Report):
    """Result of a consolidation."""

    experiences: int = Field(description="Number of experiences.")
    lessons: int = Field(description="Number of lessons now.")
    added: int = Field(description="New lessons.")
    removed: int = Field(description="Lessons that were replaced or no longer have sources.")
    unwritten: list[str] = Field(description="Errors of the chat model.")


class Stats(_Report):
    """Content of the store of experiences."""

    where: str
    embedder: str
    experiences: dict[str, int] = Field(description="By generator.")
    lessons: dict[str, int] = Field(description="By generator.")
    pending: int = Field(description="Pending operations.")
    record: TrackRecord = Field(description="Sum over all lessons and experiences.")


class Rebuilt(_Report):
    """Result of a rebuild."""

    runs: int
    experiences: int
    unreadable: list[str] = Field(description="Runs whose trajectory cannot be read.")
    aside: str = Field(description="Path of the old store; empty if there was none.")
    done: bool = Field(description="False for a dry run.")


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
    for experience_space in await store.alist_namespaces(prefix=(EXPERIENCES,), limit=_MAX_GENERATORS):
        clusters, experiences = await _find_clusters(store, experience_space)
        count += len(experiences)
        lesson_space = (LESSONS, *experience_space[1:])
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


_SPACES: dict[Kind, Literal["experiences", "lessons"]] = {"lesson": LESSONS, "experience": EXPERIENCES}
_BATCH = 200
_FLUSH_TIMEOUT_S = 60.0


class MemoryAdmin:
    """The experiences and lessons of runs; see `Gems.memory`."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    @property
    def _experiences(self) -> Experiences:
        if self._resources.experiences is None:
            raise OptionError("Memory is off.", hint="Unset GEMS_EXPERIENCE=off to use it.")
        return self._resources.experiences

    async def listed(
        self, limit: int | None = None, generator: str | None = None, kind: Kind | None = None
    ) -> list[Memory]:
        """Return lessons, then experiences, the newest of each first."""
        found: list[Memory] = []
        for wanted in _SPACES:
            if kind in (None, wanted):
                items = await self._items(wanted, generator)
                items.sort(key=lambda item: str(item.value.get("at")), reverse=True)
                found += [_to_memory(wanted, item) for item in items]
        return found[:limit]

    async def search(self, text: str, limit: int = 10, generator: str | None = None) -> list[Memory]:
        """Return the lessons and experiences most similar to a text."""
        found: list[Memory] = []
        for kind, space in _SPACES.items():
            prefix = namespace(space, generator) if generator else (space,)
            items = await self._experiences.store.asearch(prefix, query=text, limit=limit)
            found += [_to_memory(kind, item) for item in items]
        return sorted(found, key=lambda memory: -(memory.similarity or 0.0))[:limit]

    async def show(self, key: str) -> Memory:
        """Return one experience (`RUN:ROUND`) or lesson; OptionError if there is none with this key."""
        for kind in _SPACES:
            for place in await self._namespaces(kind, None):
                item = await self._experiences.store.aget(place, key)
                if item is not None:
                    return _to_memory(kind, item)
        raise OptionError(
            f"There is no experience or lesson {key[:80]!r}.", hint="`gems memory list` shows the keys."
        )

    async def forget(
        self,
        *,
        run: str | None = None,
        older_than: datetime | None = None,
        matching: str | None = None,
        dry_run: bool = False,
    ) -> Forgotten:
        """Delete experiences that match all conditions, and every lesson built from one of them.

        Args:
            run: Experiences of this run.
            older_than: Experiences written before this time.
            matching: Experiences with this text in the prompt or the text, ignoring case.
            dry_run: Only report what would be deleted.

        Raises:
            OptionError: there is no condition.
        """
        if run is None and older_than is None and matching is None:
            raise OptionError(
                "There is no condition for what to forget.", hint="Pass a run, an age or a text."
            )
        await self.flush()

        def matches(value: dict[str, Any]) -> bool:
            text = f"{value['prompt']}\n{value['text']}".casefold()
            return (
                (run is None or value["run"] == run)
                and (older_than is None or datetime.fromisoformat(value["at"]) < older_than)
                and (matching is None or matching.casefold() in text)
            )

        gone = [item for item in await self._items("experience", None) if matches(item.value)]
        pending = [
            op for op in await self._experiences.outbox.pending(2**31) if _is_matching_put(op, matches)
        ]
        sources = {(item.value["run"], item.value["round"]) for item in gone}
        lessons = [
            item
            for item in await self._items("lesson", None)
            if sources & {tuple(source) for source in item.value["sources"]}
        ]
        if not dry_run:
            await self._experiences.outbox.forget([(op["namespace"], op["key"]) for op in pending])
            await self._write([PutOp(item.namespace, item.key, None) for item in [*gone, *lessons]])
        return Forgotten(experiences=len(gone), lessons=len(lessons), pending=len(pending), done=not dry_run)

    async def export(self) -> AsyncIterator[str]:
        """Yield all lessons and experiences as lines, without line ends."""
        for kind in _SPACES:
            for item in await self._items(kind, None):
                yield format_line(kind, item.key, item.value)

    async def import_lines(self, lines: Iterable[str | bytes]) -> ImportReport:
        """Import lines of an export; repeating it changes nothing, and invalid lines are skipped."""
        faults: list[tuple[int, str]] = []
        taken: dict[tuple[tuple[str, ...], str], dict[str, Any]] = {}
        for number, line in numbered_lines(lines):
            try:
                kind, key, value = read_line(line)
            except ValueError as error:
                faults.append((number, str(error)))
            else:
                taken[namespace(_SPACES[kind], value["generator"]), key] = value
        known = await self._known(list(taken))
        puts, updated = [], 0
        for place, value in taken.items():
            item = known.get(place)
            if item is not None and _is_unchanged(item.value, value):
                continue
            updated += item is not None
            kept = {"record": item.value["record"]} if item is not None else {}
            puts.append(PutOp(*place, value | kept))
        await self._write(puts)
        return ImportReport(
            added=len(puts) - updated, updated=updated, unchanged=len(taken) - len(puts), faults=faults
        )

    async def stats(self) -> Stats:
        """Return counts, location and track records."""
        counts: dict[Kind, dict[str, int]] = {}
        records: list[TrackRecord] = []
        for kind in _SPACES:
            items = await self._items(kind, None)
            counts[kind] = {}
            for item in items:
                name = item.value["generator"]
                counts[kind][name] = counts[kind].get(name, 0) + 1
                records.append(item.value["record"])
        return Stats(
            where=self._experiences.store.where,
            embedder=", ".join(sorted(await self._experiences.store.embedder_identities()))
            or (await self._experiences.store.embedder()).identity,
            experiences=counts["experience"],
            lessons=counts["lesson"],
            pending=await self._experiences.outbox.count(),
            record=sum_records(records),
        )

    async def consolidate(
        self, progress: Callable[[int, int], None] | None = None, *, use_model: bool = True
    ) -> ConsolidationReport:
        """Build a lesson from each cluster of similar experiences; without new ones nothing changes.

        Args:
            progress: Called with the number of clusters of a generator that are done, and their total.
            use_model: Whether the reflector's chat model writes the lessons; otherwise the experience nearest
                to the centroid is used.
        """
        await self.flush()
        distiller = Distiller(self._resources.chats["reflector"]) if use_model else None
        return await consolidate(self._experiences.store, distiller, progress)

    async def reindex(self, progress: Callable[[int], None] | None = None) -> int:
        """Embed the items of other embedders again; return their number."""
        return await self._experiences.store.reindex(progress)

    async def begin_anew(self) -> str:
        """Start an empty store; return the path of the old one."""
        return await self._experiences.store.clear()

    async def take(self, operations: Iterable[PendingOp]) -> None:
        """Submit operations in order; `flush` waits for them."""
        for operation in operations:
            await self._experiences.writer.submit(operation)

    async def flush(self) -> None:
        """Wait until all experiences are in the store, or raise the error that prevents it."""
        fault = await self._experiences.writer.flush(_FLUSH_TIMEOUT_S)
        if fault is not None:
            raise fault

    async def _namespaces(self, kind: Kind, generator: str | None) -> list[tuple[str, ...]]:
        if generator is not None:
            return [namespace(_SPACES[kind], generator)]
        return await self._experiences.store.alist_namespaces(prefix=(_SPACES[kind],), limit=10_000)

    async def _items(self, kind: Kind, generator: str | None) -> list[Item]:
        places = await self._namespaces(kind, generator)
        return [item for place in places for item in await self._experiences.store.items(place)]

    async def _known(self, places: list[tuple[tuple[str, ...], str]]) -> dict[Any, Item]:
        known: dict[Any, Item] = {}
        for start in range(0, len(places), _BATCH):
            part = places[start : start + _BATCH]
            found = await self._experiences.store.abatch([GetOp(*place) for place in part])
            known |= {place: item for place, item in zip(part, found, strict=True) if isinstance(item, Item)}
        return known

    async def _write(self, puts: list[PutOp]) -> None:
        for start in range(0, len(puts), _BATCH):
            await self._experiences.store.abatch(puts[start : start + _BATCH])


def _to_memory(kind: Kind, item: Item) -> Memory:
    similarity = item.score if isinstance(item, SearchItem) else None
    return Memory(
        kind=kind,
        key=item.key,
        generator=item.value["generator"],
        similarity=similarity,
        value=item.value,
    )


def _is_matching_put(op: PendingOp, matches: Callable[[dict[str, Any]], bool]) -> bool:
    return op["kind"] == "put" and op["namespace"][0] == EXPERIENCES and matches(op["value"])


def _is_unchanged(kept: dict[str, Any], given: dict[str, Any]) -> bool:
    own = {"record", "at"}
    return {n: v for n, v in kept.items() if n not in own} == {n: v for n, v in given.items() if n not in own}


async def rebuild(
    graph: Graph,
    resources: Resources,
    memories: MemoryAdmin,
    checkpoints: Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    dry_run: bool = False,
) -> Rebuilt:
    """Move the store aside and fill a new one from the trajectories.

    Experiences and their track records come back, including forgotten ones of runs that still exist. Lessons
    are built again by `consolidate`, and imported items must be imported again.

    Args:
        graph: The compiled graph, which reads the trajectories.
        resources: The stores.
        memories: The admin interface of the store.
        checkpoints: The trajectories' file, for error messages.
        progress: Called with the number of runs that are done, and their total.
        dry_run: Only read the trajectories and count.
    """
    aside = "" if dry_run else await memories.begin_anew()
    rows = [row for row in await resources.ledger.runs() if row["options"].get("memory", True)]
    credit_puts: list[PendingOp] = []
    # Different ids than the runs' own, which are marked as done on the old store.
    token = secrets.token_hex(8)
    unreadable: list[str] = []
    count = 0
    for number, row in enumerate(rows, 1):
        try:
            values: dict[str, Any] = (await read_snapshot(graph, thread(row["run_id"]), checkpoints)).values
        except StorageError:
            unreadable.append(row["run_id"])
        else:
            puts = _experience_puts(values, row)
            count += len(puts)
            credit_puts += _lesson_credits(values, row, token)
            if not dry_run:
                await memories.take(puts)
        if progress is not None:
            progress(number, len(rows))
    if not dry_run:
        await memories.flush()
        # After all experiences: a credit for a missing item is dropped.
        await memories.take(credit_puts)
        await memories.flush()
    return Rebuilt(runs=len(rows), experiences=count, unreadable=unreadable, aside=aside, done=not dry_run)


def _experience_puts(values: dict[str, Any], row: RunRow) -> list[PendingOp]:
    generator = memory_namespace(row["models"]["generator"], row["owner"])
    put = experience_ops(values, row["run_id"], generator)
    return [{**op, "value": {**op["value"], "at": row["updated"]}} for op in put]


def _lesson_credits(values: dict[str, Any], row: RunRow, token: str) -> list[PendingOp]:
    judged = {round_["number"] for round_ in values.get("rounds") or []}
    recalls = cast("list[Recall]", values.get("recalls") or [])
    name = f"rebuilt/{token}/{row['run_id']}"
    return [op for recall in recalls if recall["round"] in judged for op in credit_ops(recall, values, name)]
