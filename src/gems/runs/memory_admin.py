"""What runs have learnt, for people and programs: look at it, tidy it, carry it elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from typing import Any, Literal

from langgraph.store.base import GetOp, Item, PutOp, SearchItem

from gems.consolidation import Distiller, consolidate
from gems.errors import OptionError
from gems.memory.clustering import sum_records
from gems.memory.experience import EXPERIENCES, LESSONS, namespace
from gems.memory.export import format_line, numbered_lines, read_line
from gems.memory.outbox import PendingOp
from gems.memory_reports import ConsolidationReport, Forgotten, ImportReport, Kind, Memory, Stats
from gems.resources import Experiences, Resources
from gems.types import TrackRecord

_SPACES: dict[Kind, Literal["experiences", "lessons"]] = {"lesson": LESSONS, "experience": EXPERIENCES}
_BATCH = 200
_FLUSH_S = 60.0


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
                yield format_line(kind, item.key, item.value)

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
            record=sum_records(records),
        )

    async def consolidate(
        self, progress: Callable[[int, int], None] | None = None, *, use_model: bool = True
    ) -> ConsolidationReport:
        """Draw a lesson from each cluster of similar experiences; nothing changes where nothing is new.

        Args:
            progress: Told how many clusters of a generator are done, of how many.
            use_model: Whether the reflector's chat model writes the lessons; the middle experience otherwise.
        """
        await self.flush()
        distiller = Distiller(self._resources.chats["reflector"]) if use_model else None
        return await consolidate(self._opened.store, distiller, progress)

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
