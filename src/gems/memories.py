"""What runs have learnt, for people and programs: look at it, tidy it, carry it elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from typing import Any, Literal

from langgraph.store.base import GetOp, Item, PutOp, SearchItem
from pydantic import BaseModel, ConfigDict, Field

from gems.errors import OptionError, ProviderError
from gems.memory.consolidating import Cluster, clusters, lesson_of, replaced, summed
from gems.memory.experience import EXPERIENCES, LESSONS, namespace
from gems.memory.outbox import PendingOp
from gems.memory.recalling import with_sequel
from gems.memory.transfer import line_of, numbered_lines, read_line
from gems.models.tasks import ExperienceReply
from gems.nodes.prompts import numbered, question
from gems.resources import Experiences, Resources
from gems.types import TrackRecord

Kind = Literal["experience", "lesson"]
_SPACES: dict[Kind, Literal["experiences", "lessons"]] = {"lesson": LESSONS, "experience": EXPERIENCES}
_BATCH = 200
_FLUSH_S = 60.0


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True)


class Memory(_Report):
    """An experience or a lesson."""

    kind: Kind
    key: str
    generator: str
    similarity: float | None = Field(None, description="To what was searched for; higher is better.")
    value: dict[str, Any]


class Forgotten(_Report):
    """What is, or would be, forgotten."""

    experiences: int
    lessons: int = Field(description="Lessons that were drawn from any of them.")
    pending: int = Field(description="Experiences that were still to be written.")
    done: bool = Field(description="False where it was only looked at.")


class ImportReport(_Report):
    """What an import did."""

    added: int
    updated: int
    unchanged: int
    faults: list[tuple[int, str]] = Field(description="Line number from 1, and what is wrong with the line.")


class ConsolidationReport(_Report):
    """What consolidation did."""

    experiences: int = Field(description="Experiences looked at.")
    lessons: int = Field(description="Lessons there are now.")
    added: int = Field(description="New ones.")
    removed: int = Field(
        description="Those whose place new ones took, and those that rest on nothing anymore."
    )
    unwritten: list[str] = Field(description="Why the chat model wrote none, once per failure.")


class Stats(_Report):
    """What is kept."""

    where: str
    embedder: str
    experiences: dict[str, int] = Field(description="By generator.")
    lessons: dict[str, int] = Field(description="By generator.")
    pending: int = Field(description="Operations that are still to be carried out.")
    record: TrackRecord = Field(description="Of all lessons and experiences together.")


class Rebuilt(_Report):
    """What was made anew."""

    runs: int
    experiences: int
    unreadable: list[str] = Field(description="Runs whose trajectory cannot be read.")
    aside: str = Field(description="Where the old store is now; empty where there was none.")


class Memories:
    """Use `Gems.memory`.

    Args:
        resources: The opened stores and models.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    @property
    def _opened(self) -> Experiences:
        if self._resources.experiences is None:
            raise OptionError("Memory is off.", hint="Unset GEMS_EXPERIENCE=off to use it.")
        return self._resources.experiences

    async def listed(
        self, limit: int | None = None, generator: str | None = None, kind: Kind | None = None
    ) -> list[Memory]:
        """Lessons, then experiences, the newest of each first."""
        found: list[Memory] = []
        for wanted in _SPACES:
            if kind in (None, wanted):
                items = await self._items(wanted, generator)
                items.sort(key=lambda item: str(item.value.get("at")), reverse=True)
                found += [_memory(wanted, item) for item in items]
        return found[:limit]

    async def search(self, text: str, limit: int = 10, generator: str | None = None) -> list[Memory]:
        """What is most alike to a text, lessons and experiences together."""
        found: list[Memory] = []
        for kind, space in _SPACES.items():
            prefix = namespace(space, generator) if generator else (space,)
            items = await self._opened.store.asearch(prefix, query=text, limit=limit)
            found += [_memory(kind, item) for item in items]
        return sorted(found, key=lambda memory: -(memory.similarity or 0.0))[:limit]

    async def show(self, key: str) -> Memory:
        """One experience (`RUN:ROUND`) or lesson.

        Raises:
            OptionError: there is none with this key.
        """
        for kind in _SPACES:
            for place in await self._namespaces(kind, None):
                item = await self._opened.store.aget(place, key)
                if item is not None:
                    return _memory(kind, item)
        raise OptionError(
            f"Nothing is remembered as {key[:80]!r}.", hint="`gems memory list` shows the keys."
        )

    async def forget(
        self,
        *,
        run: str | None = None,
        older_than: datetime | None = None,
        matching: str | None = None,
        dry_run: bool = False,
    ) -> Forgotten:
        """Forget experiences that fit all of what is given, and every lesson that was drawn from one of them.

        Args:
            run: Of this run.
            older_than: Written before this moment.
            matching: With this in the prompt or the text, in whatever case.
            dry_run: Only say what would go.

        Raises:
            OptionError: nothing is given.
        """
        if run is None and older_than is None and matching is None:
            raise OptionError("Nothing says what to forget.", hint="Name a run, an age or a text.")
        await self.flush()

        def fits(value: dict[str, Any]) -> bool:
            text = f"{value['prompt']}\n{value['text']}".casefold()
            return (
                (run is None or value["run"] == run)
                and (older_than is None or datetime.fromisoformat(value["at"]) < older_than)
                and (matching is None or matching.casefold() in text)
            )

        gone = [item for item in await self._items("experience", None) if fits(item.value)]
        pending = [op for op in await self._opened.outbox.pending(2**31) if _is_of(op, fits)]
        sources = {(item.value["run"], item.value["round"]) for item in gone}
        lessons = [
            item
            for item in await self._items("lesson", None)
            if sources & {tuple(source) for source in item.value["sources"]}
        ]
        if not dry_run:
            await self._opened.outbox.forget([(op["namespace"], op["key"]) for op in pending])
            await self._write([PutOp(item.namespace, item.key, None) for item in [*gone, *lessons]])
        return Forgotten(experiences=len(gone), lessons=len(lessons), pending=len(pending), done=not dry_run)

    async def export(self) -> AsyncIterator[str]:
        """Everything, one line each, without line ends."""
        for kind in _SPACES:
            for item in await self._items(kind, None):
                yield line_of(kind, item.key, item.value)

    async def import_lines(self, lines: Iterable[str | bytes]) -> ImportReport:
        """Take in lines of an export; again changes nothing; a broken line keeps no other out."""
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
            if item is not None and _same(item.value, value):
                continue
            updated += item is not None
            kept = {"record": item.value["record"]} if item is not None else {}
            puts.append(PutOp(*place, value | kept))
        await self._write(puts)
        return ImportReport(
            added=len(puts) - updated, updated=updated, unchanged=len(taken) - len(puts), faults=faults
        )

    async def stats(self) -> Stats:
        """How much is kept, where, and what came of it."""
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
            where=self._opened.store.where,
            embedder=", ".join(sorted(await self._opened.store.embedder_identities()))
            or (await self._opened.store.embedder()).identity,
            experiences=counts["experience"],
            lessons=counts["lesson"],
            pending=await self._opened.outbox.count(),
            record=summed(records),
        )

    async def consolidate(
        self, progress: Callable[[int, int], None] | None = None, *, use_model: bool = True
    ) -> ConsolidationReport:
        """Draw a lesson from each cluster of similar experiences; nothing changes where nothing is new.

        Args:
            progress: Told how many clusters are done, of how many.
            use_model: Whether the reflector's chat model writes the lessons; the middle experience otherwise.
        """
        await self.flush()
        looked, added, removed, unwritten = 0, 0, 0, list[str]()
        for place in await self._namespaces("experience", None):
            items = {item.key: item.value for item in await self._opened.store.items(place)}
            keys, vectors = await self._opened.store.vectors(place)
            looked += len(keys)
            space = (LESSONS, *place[1:])
            known = {item.key: item.value for item in await self._opened.store.items(space)}
            found = clusters(keys, [items[key] for key in keys], vectors)
            for number, cluster in enumerate(found, 1):
                if cluster.name not in known:
                    old = replaced(cluster, known)
                    text = await self._distilled(cluster, unwritten) if use_model else None
                    generator = str(cluster.values[0]["generator"])
                    record = summed([known[key]["record"] for key in old])
                    lesson = lesson_of(cluster, text, generator, record)
                    await self._write([PutOp(space, cluster.name, dict(lesson))])
                    added += 1
                if progress is not None:
                    progress(number, len(found))
            stale = known.keys() - {cluster.name for cluster in found} - _foreign(known, items)
            await self._write([PutOp(space, key, None) for key in sorted(stale)])
            removed += len(stale)
        return ConsolidationReport(
            experiences=looked,
            lessons=len(await self._items("lesson", None)),
            added=added,
            removed=removed,
            unwritten=unwritten,
        )

    async def reindex(self, progress: Callable[[int], None] | None = None) -> int:
        """Embed everything anew that another embedder embedded; how many items that were."""
        return await self._opened.store.reindex(progress)

    async def begin_anew(self) -> str:
        """Empty the store; where the old one is now."""
        return await self._opened.store.clear()

    async def take(self, operations: Iterable[PendingOp]) -> None:
        """Have operations carried out, in order; `flush` waits for it."""
        for operation in operations:
            await self._opened.writer.submit(operation)

    async def flush(self) -> None:
        """Wait until everything that was learnt is in the store.

        Raises:
            GemsError: something cannot be written.
        """
        fault = await self._opened.writer.flush(_FLUSH_S)
        if fault is not None:
            raise fault

    async def _distilled(self, cluster: Cluster, unwritten: list[str]) -> str | None:
        told = numbered(with_sequel(dict(value)) for value in cluster.values)
        client = self._resources.chats["reflector"]
        try:
            reply = await client.ask(question("distil", {"experiences": told}), lambda _usage: None)
        except ProviderError as error:
            unwritten.append(str(error))
            return None
        return reply.form(ExperienceReply).experience.strip() or None

    async def _namespaces(self, kind: Kind, generator: str | None) -> list[tuple[str, ...]]:
        if generator is not None:
            return [namespace(_SPACES[kind], generator)]
        return await self._opened.store.alist_namespaces(prefix=(_SPACES[kind],), limit=10_000)

    async def _items(self, kind: Kind, generator: str | None) -> list[Item]:
        places = await self._namespaces(kind, generator)
        return [item for place in places for item in await self._opened.store.items(place)]

    async def _known(self, places: list[tuple[tuple[str, ...], str]]) -> dict[Any, Item]:
        known: dict[Any, Item] = {}
        for start in range(0, len(places), _BATCH):
            part = places[start : start + _BATCH]
            found = await self._opened.store.abatch([GetOp(*place) for place in part])
            known |= {place: item for place, item in zip(part, found, strict=True) if isinstance(item, Item)}
        return known

    async def _write(self, puts: list[PutOp]) -> None:
        for start in range(0, len(puts), _BATCH):
            await self._opened.store.abatch(puts[start : start + _BATCH])


def _memory(kind: Kind, item: Item) -> Memory:
    similarity = item.score if isinstance(item, SearchItem) else None
    return Memory(
        kind=kind,
        key=item.key,
        generator=item.value["generator"],
        similarity=similarity,
        value=item.value,
    )


def _is_of(op: PendingOp, fits: Callable[[dict[str, Any]], bool]) -> bool:
    return op["kind"] == "put" and op["namespace"][0] == EXPERIENCES and fits(op["value"])


def _same(kept: dict[str, Any], given: dict[str, Any]) -> bool:
    own = {"record", "at"}
    return {n: v for n, v in kept.items() if n not in own} == {n: v for n, v in given.items() if n not in own}


def _foreign(lessons: dict[str, dict[str, Any]], experiences: dict[str, dict[str, Any]]) -> set[str]:
    """Lessons that were imported without the experiences they rest on: those are nobody's to remove."""
    return {
        key
        for key, lesson in lessons.items()
        if not any(f"{run}:{number}" in experiences for run, number in lesson["sources"])
    }
