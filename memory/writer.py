"""Experiences are written beside the loop: kept at once, sent in batches, tried again until they arrive."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from langgraph.store.base import BaseStore, GetOp, Item, Op, PutOp

from gems.errors import GemsError, MemoryUnavailableError
from gems.memory.experience import no_record
from gems.memory.outbox import Outbox, PendingOp

logger = logging.getLogger(__name__)
BATCH = 64
_GATHER_S = 0.3
_CLOSE_S = 10.0


async def apply(store: BaseStore, operations: Sequence[PendingOp]) -> None:
    """Carry out operations on a store, all reads in one batch and all writes in another.

    An item that is written again keeps its track record; a credit for an item that is gone is dropped.

    Raises:
        GemsError: the store cannot be used; any part may have been done, and doing it again is harmless
            for puts.
    """
    places = list(dict.fromkeys((tuple(op["namespace"]), op["key"]) for op in operations))
    reads: list[Op] = [GetOp(namespace, key) for namespace, key in places]
    found: list[Any] = await store.abatch(reads)
    known = {place: item for place, item in zip(places, found, strict=True) if isinstance(item, Item)}
    values: dict[tuple[tuple[str, ...], str], dict[str, Any]] = {}
    for op in operations:
        place = (tuple(op["namespace"]), op["key"])
        before = values.get(place) or (known[place].value if place in known else None)
        if op["kind"] == "put":
            kept = before.get("record") if before else None
            values[place] = op["value"] | ({"record": kept} if kept else {})
        elif before is not None:
            values[place] = before | {"record": _added(before.get("record") or {}, op["value"])}
    writes: list[Op] = [PutOp(namespace, key, value) for (namespace, key), value in values.items()]
    await store.abatch(writes)


class ExperienceWriter:
    """Writes what is in the outbox to the store.

    Args:
        store: Where experiences are kept for good.
        outbox: Where they are kept until then.
    """

    def __init__(self, store: BaseStore, outbox: Outbox) -> None:
        self._store, self._outbox = store, outbox
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def submit(self, operation: PendingOp) -> None:
        """Take an operation; it is safe on the disk when this returns, and is carried out soon after.

        Raises:
            StorageError: the outbox cannot be written.
        """
        await self._outbox.add(operation)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._soon())

    async def flush(self, timeout_s: float) -> GemsError | None:
        """Carry out everything that is to be done.

        Args:
            timeout_s: Seconds to wait for it; what is left then stays in the outbox.

        Returns:
            What keeps something back; None where nothing is left.
        """
        try:
            return await asyncio.wait_for(self._drain(), timeout_s)
        except TimeoutError:
            return MemoryUnavailableError(f"The store of experiences took more than {timeout_s:g} seconds.")

    async def pending(self) -> int:
        """How many operations are still to be carried out."""
        return await self._outbox.count()

    async def aclose(self) -> None:
        """Carry out what can be; the rest is done by whoever opens this home next."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if await self._outbox.count() and (fault := await self.flush(_CLOSE_S)):
            logger.warning("What was learnt is written later: %s", fault)

    async def _soon(self) -> None:
        # Several rounds, of several runs perhaps, go in one batch.
        await asyncio.sleep(_GATHER_S)
        if fault := await self._drain():
            logger.info("What was learnt has to wait: %s", fault)

    async def _drain(self) -> GemsError | None:
        try:
            async with self._writing:
                while operations := await self._outbox.pending(BATCH):
                    await apply(self._store, operations)
                    await self._outbox.done(operations)
        except GemsError as error:
            return error
        return None


def _added(record: dict[str, int], credit: dict[str, int]) -> dict[str, int]:
    return {name: record.get(name, 0) + credit.get(name, 0) for name in no_record()}
