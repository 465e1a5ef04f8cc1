"""`Gems.memory`: list, forget, consolidate, import, export, rebuild."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from langgraph.store.base import GetOp, Item, PutOp, SearchItem
from pydantic import BaseModel, ConfigDict, Field

from gems.errors import OptionError, ProviderError, StorageError
from gems.memory.clustering import Cluster, build_lesson, cluster_experiences, replaced_lessons
from gems.memory.experience import (
    EXPERIENCES,
    LESSONS,
    PendingOp,
    StepOutcome,
    count_outcomes,
    credit_ops,
    experience_key,
    experience_ops,
    memory_namespace,
    namespace,
    sum_records,
)
from gems.memory.export import LineKind, format_line, numbered_lines, read_line
from gems.memory.measurements import (
    MEASUREMENTS,
    BoxTally,
    Tally,
    YesTally,
    count_boxes,
    count_looks,
    count_rechecks,
    measurement_ops,
)
from gems.memory.retrieval import text_with_outcome
from gems.memory.store import ChromaStore
from gems.models.chat.schemas import ExperienceReply
from gems.nodes.prompts import numbered, question
from gems.options import MAX_ROUNDS
from gems.resources import Experiences, Resources
from gems.runs.fork import Graph, thread
from gems.runs.recovery import read_snapshot
from gems.types import Action, TrackRecord

Kind = Literal["experience", "lesson"]
_SPACES: dict[Kind, Literal["experiences", "lessons"]] = {"lesson": LESSONS, "experience": EXPERIENCES}
_PLACES: dict[LineKind, Literal["experiences", "lessons", "measurements"]] = {
    "lesson": LESSONS,
    "experience": EXPERIENCES,
    "measurement": MEASUREMENTS,
}
_BATCH = 200
_MAX_GENERATORS = 10_000
_FLUSH_TIMEOUT_S = 60.0


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
    pending: int = Field(description="Experiences and measurements that were not written yet.")
    measurements: int = Field(0, description="Rounds whose measurements of instruments and boxes are deleted.")
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


class StepRecord(_Report):
    """How often a way to draw the next image made the best one better, with a generator and for a kind of fault."""

    generator: str
    action: Action
    kind: str = Field(description="Kind of requirement; for redraw the number of unmet requirements, 3 for more.")
    improved: int
    not_improved: int


class Stats(_Report):
    """Content of the store of experiences."""

    where: str
    embedder: str
    experiences: dict[str, int] = Field(description="By generator.")
    lessons: dict[str, int] = Field(description="By generator.")
    pending: int = Field(description="Pending operations.")
    record: TrackRecord = Field(description="Sum over all lessons and experiences.")
    steps: list[StepRecord] = Field(description="What drawing anew and mending were worth, by which runs choose.")
    instruments: dict[str, dict[str, Tally]] = Field(
        description="By instrument and kind of requirement, how often it and the judge agreed, and who was right."
    )
    boxes: dict[str, dict[str, BoxTally]] = Field(
        description="By who placed them and kind of requirement, how many edits within boxes fixed what they were for."
    )
    probabilities: list[YesTally] = Field(description="How often later looks confirmed the judge's yes.")


class Rebuilt(_Report):
    """Result of a rebuild."""

    runs: int
    experiences: int
    unreadable: list[str] = Field(description="Runs whose trajectory cannot be read.")
    aside: str = Field(description="Path of the old store; empty if there was none.")
    done: bool = Field(description="False for a dry run.")


Values = Mapping[str, Mapping[str, Any]]


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
            for space in await self._namespaces(kind):
                item = await self._experiences.store.aget(space, key)
                if item is not None:
                    return _to_memory(kind, item)
        raise OptionError(f"There is no experience or lesson {key[:80]!r}.", hint="`gems memory list` shows the keys.")

    async def forget(
        self,
        *,
        run: str | None = None,
        older_than: datetime | None = None,
        matching: str | None = None,
        dry_run: bool = False,
    ) -> Forgotten:
        """Delete experiences that match all conditions, and every lesson built from one of them.

        OptionError if there is no condition. `run` is their run, `older_than` the time before which they were
        written, `matching` a part of the prompt or the text, ignoring case.
        """
        if run is None and older_than is None and matching is None:
            raise OptionError("There is no condition for what to forget.", hint="Pass a run, an age or a text.")
        await self.flush()

        def matches(value: dict[str, Any]) -> bool:
            text = f"{value['prompt']}\n{value.get('text', '')}".casefold()
            return (
                (run is None or value["run"] == run)
                and (older_than is None or datetime.fromisoformat(value["at"]) < older_than)
                and (matching is None or matching.casefold() in text)
            )

        # There may be a place for each of many owners; only that of the run is read.
        row = None if run is None else await self._resources.ledger.run(run)
        place = None if row is None else memory_namespace(row["models"]["generator"], row["owner"])
        gone = [item for item in await self._items("experience", place, run) if matches(item.value)]
        measured = [item for item in await self._items("measurement", place, run) if matches(item.value)]
        pending = [
            op
            for op in await self._experiences.outbox.pending(2**31)
            if op["kind"] == "put" and op["namespace"][0] in (EXPERIENCES, MEASUREMENTS) and matches(op["value"])
        ]
        sources = {(item.value["run"], item.value["round"]) for item in gone}
        lessons = [
            item
            for _, generator in sorted({item.namespace for item in gone})
            for item in await self._items("lesson", generator)
            if sources & {tuple(source) for source in item.value["sources"]}
        ]
        if not dry_run:
            await self._experiences.outbox.forget([(op["namespace"], op["key"]) for op in pending])
            await self._write([PutOp(item.namespace, item.key, None) for item in [*gone, *lessons, *measured]])
        return Forgotten(
            experiences=len(gone),
            lessons=len(lessons),
            pending=len(pending),
            measurements=len(measured),
            done=not dry_run,
        )

    async def export(self) -> AsyncIterator[str]:
        """Yield all lessons, experiences and measurements as lines, without line ends."""
        for kind in _PLACES:
            for item in await self._items(kind):
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
                taken[namespace(_PLACES[kind], value["generator"]), key] = value
        known: dict[Any, Item] = {}
        places = list(taken)
        for start in range(0, len(places), _BATCH):
            part = places[start : start + _BATCH]
            found = await self._experiences.store.abatch([GetOp(*place) for place in part])
            known |= {place: item for place, item in zip(part, found, strict=True) if isinstance(item, Item)}
        puts, updated = [], 0
        for place, value in taken.items():
            item = known.get(place)
            if item is not None and _without_own(item.value) == _without_own(value):
                continue
            updated += item is not None
            kept = {"record": item.value["record"]} if item is not None and "record" in item.value else {}
            puts.append(PutOp(*place, value | kept))
        await self._write(puts)
        return ImportReport(added=len(puts) - updated, updated=updated, unchanged=len(taken) - len(puts), faults=faults)

    async def stats(self) -> Stats:
        """Return counts, location and track records."""
        store = self._experiences.store
        items = {kind: await self._items(kind) for kind in _SPACES}
        counts = {kind: Counter(item.value["generator"] for item in found) for kind, found in items.items()}
        measured = [item.value for item in await self._items("measurement")]
        return Stats(
            where=store.where,
            embedder=", ".join(sorted(await store.embedder_identities())) or (await store.embedder()).identity,
            experiences=counts["experience"],
            lessons=counts["lesson"],
            pending=await self._experiences.outbox.count(),
            record=sum_records([item.value["record"] for found in items.values() for item in found]),
            steps=_count_steps(item.value for item in items["experience"]),
            instruments=count_looks(look for value in measured for look in value["looks"]),
            boxes=count_boxes(outcome for value in measured for outcome in value["boxes"]),
            probabilities=count_rechecks(each for value in measured for each in value["rechecks"]),
        )

    async def consolidate(
        self, progress: Callable[[int, int], None] | None = None, *, use_model: bool = True
    ) -> ConsolidationReport:
        """Build a lesson from each cluster of similar experiences; without new ones nothing changes.

        A lesson is written before the lessons that it replaces are deleted, so that a process that dies in
        between loses none; the next consolidation deletes the rest. `progress` is called with the number of
        clusters of a generator that are done, and their total. With `use_model` the reflector's chat model
        writes the lessons; otherwise the experience nearest to the centroid is used.
        """
        await self.flush()
        store = self._experiences.store
        count, added, removed = 0, 0, 0
        faults: list[str] = []
        for space in await self._namespaces("experience"):
            clusters, experiences = await _find_clusters(store, space)
            count += len(experiences)
            lesson_space = (LESSONS, *space[1:])
            known = {item.key: item.value for item in await store.items(lesson_space)}
            for number, cluster in enumerate(clusters, 1):
                if cluster.name not in known:
                    text = await self._distil(cluster, faults) if use_model else None
                    record = sum_records([known[key]["record"] for key in replaced_lessons(cluster, known)])
                    lesson = build_lesson(cluster, text, str(cluster.values[0]["generator"]), record)
                    await self._write([PutOp(lesson_space, cluster.name, dict(lesson))])
                    added += 1
                if progress is not None:
                    progress(number, len(clusters))
            stale = known.keys() - {cluster.name for cluster in clusters} - _imported(known, experiences)
            await self._write([PutOp(lesson_space, key, None) for key in sorted(stale)])
            removed += len(stale)
        lessons = sum([await store.count(space) for space in await self._namespaces("lesson")])
        return ConsolidationReport(experiences=count, lessons=lessons, added=added, removed=removed, unwritten=faults)

    async def _distil(self, cluster: Cluster, faults: list[str]) -> str | None:
        """Let the reflector write the lesson of a cluster; None if that fails, with the error in `faults`."""
        experiences = numbered(text_with_outcome(dict(value)) for value in cluster.values)
        try:
            reply = await self._resources.chats["reflector"].ask(question("distil", {"experiences": experiences}))
        except ProviderError as error:
            faults.append(str(error))
            return None
        return reply.form(ExperienceReply).experience.strip() or None

    async def reindex(self, progress: Callable[[int], None] | None = None) -> int:
        """Embed the items of other embedders again; return their number."""
        return await self._experiences.store.reindex(progress)

    async def rebuild(
        self,
        graph: Graph,
        checkpoints: Path,
        progress: Callable[[int, int], None] | None = None,
        *,
        dry_run: bool = False,
    ) -> Rebuilt:
        """Move the store aside and fill a new one from the trajectories; `checkpoints` is their file.

        Experiences and their track records come back, including forgotten ones of runs that still exist.
        Lessons are built again by `consolidate`, and imported items must be imported again. `progress` is
        called with the number of runs that are done, and their total.
        """
        aside = "" if dry_run else await self._experiences.store.clear()
        rows = [row for row in await self._resources.ledger.runs() if row["options"].get("memory", True)]
        credit_puts: list[PendingOp] = []
        # Different ids than the runs' own, which are marked as done on the old store.
        token = secrets.token_hex(8)
        unreadable: list[str] = []
        count = 0
        for number, row in enumerate(rows, 1):
            try:
                values = (await read_snapshot(graph, thread(row["run_id"]), checkpoints)).values
            except StorageError:
                unreadable.append(row["run_id"])
            else:
                generator = memory_namespace(row["models"]["generator"], row["owner"])
                puts = experience_ops(values, row["run_id"], generator)
                count += len(puts)
                puts += measurement_ops(values, row["run_id"], generator, row["models"].get("judge", ""))
                judged = {round_["number"] for round_ in values.get("rounds") or ()}
                for recall in values.get("recalls") or ():
                    if recall["round"] in judged:
                        credit_puts += credit_ops(recall, values, f"rebuilt/{token}/{row['run_id']}")
                if not dry_run:
                    await self._submit([{**op, "value": {**op["value"], "at": row["updated"]}} for op in puts])
            if progress is not None:
                progress(number, len(rows))
        if not dry_run:
            await self.flush()
            # After all experiences: a credit for a missing item is dropped.
            await self._submit(credit_puts)
            await self.flush()
        return Rebuilt(runs=len(rows), experiences=count, unreadable=unreadable, aside=aside, done=not dry_run)

    async def flush(self) -> None:
        """Wait until all experiences are in the store, or raise the error that prevents it."""
        fault = await self._experiences.writer.flush(_FLUSH_TIMEOUT_S)
        if fault is not None:
            raise fault

    async def _submit(self, operations: Iterable[PendingOp]) -> None:
        for operation in operations:
            await self._experiences.writer.submit(operation)

    async def _namespaces(self, kind: LineKind, generator: str | None = None) -> list[tuple[str, ...]]:
        if generator is not None:
            return [namespace(_PLACES[kind], generator)]
        return await self._experiences.store.alist_namespaces(prefix=(_PLACES[kind],), limit=_MAX_GENERATORS)

    async def _items(self, kind: LineKind, generator: str | None = None, run: str | None = None) -> list[Item]:
        """Return the items, in the order they were added; all of them or a generator's or a run's."""
        spaces, store = await self._namespaces(kind, generator), self._experiences.store
        if run is not None:
            found = [await store.asearch(space, filter={"run": run}, limit=MAX_ROUNDS) for space in spaces]
            return [item for items in found for item in items]
        return [item for space in spaces for item in await store.items(space)]

    async def _write(self, puts: list[PutOp]) -> None:
        for start in range(0, len(puts), _BATCH):
            await self._experiences.store.abatch(puts[start : start + _BATCH])


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


def _imported(lessons: Values, experiences: Values) -> set[str]:
    """Return lessons that were imported without their experiences; those are kept."""
    return {
        key
        for key, lesson in lessons.items()
        if not any(experience_key(run, number) in experiences for run, number in lesson["sources"])
    }


def _count_steps(experiences: Iterable[Mapping[str, Any]]) -> list[StepRecord]:
    by_generator: dict[str, list[StepOutcome]] = {}
    for value in experiences:
        by_generator.setdefault(value["generator"], []).extend(value.get("steps_after") or ())
    return [
        StepRecord(generator=generator, action=action, kind=kind, improved=better, not_improved=worse)
        for generator, outcomes in sorted(by_generator.items())
        for (action, kind), (better, worse) in sorted(count_outcomes(outcomes).items())
    ]


def _to_memory(kind: Kind, item: Item) -> Memory:
    similarity = item.score if isinstance(item, SearchItem) else None
    generator = item.value["generator"]
    return Memory(kind=kind, key=item.key, generator=generator, similarity=similarity, value=item.value)


def _without_own(value: dict[str, Any]) -> dict[str, Any]:
    """Return an item's value without what belongs to a store and not to an export."""
    return {name: each for name, each in value.items() if name not in ("record", "at")}
