"""Admin interface of the store of experiences: list, forget, export, import, consolidate."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from typing import Any, Literal

from langgraph.store.base import GetOp, Item, PutOp, SearchItem

from gems.consolidation import Distiller, consolidate
from gems.errors import OptionError
from gems.memory.clustering import sum_records
from gems.memory.experience import EXPERIENCES, LESSONS, PendingOp, namespace
from gems.memory.export import format_line, numbered_lines, read_line
from gems.memory_reports import ConsolidationReport, Forgotten, ImportReport, Kind, Memory, Stats
from gems.resources import Experiences, Resources
from gems.types import TrackRecord

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
