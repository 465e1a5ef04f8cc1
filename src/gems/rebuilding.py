"""The store of experiences made anew from the trajectories of all runs."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from gems.errors import StorageError
from gems.memory.experience import memory_namespace
from gems.memory.ledger import RunRow
from gems.memory.operations import credit_ops, experience_ops
from gems.memory.outbox import PendingOp
from gems.memory_reports import Rebuilt
from gems.resources import Resources
from gems.runs.fork import Graph, thread
from gems.runs.memory_admin import Memories
from gems.runs.recovery import snapshot_of
from gems.types import Recall


async def rebuild(
    graph: Graph,
    resources: Resources,
    memories: Memories,
    checkpoints: Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    dry_run: bool = False,
) -> Rebuilt:
    """Move the store aside and fill a new one with what the trajectories hold.

    Experiences and their track records come back, also what was forgotten of runs that are still there.
    Lessons are drawn anew by `consolidate`, and what was imported has to be imported again.

    Args:
        graph: The compiled graph, which reads the trajectories.
        resources: The stores.
        memories: What is rebuilt.
        checkpoints: The trajectories' file, for what is wrong with it.
        progress: Told how many runs are done, of how many.
        dry_run: Only read the trajectories and count.

    Raises:
        StorageError: the old store cannot be moved, or the new one not be written.
    """
    aside = "" if dry_run else await memories.begin_anew()
    rows = [row for row in await resources.ledger.runs() if row["options"].get("memory", True)]
    merits: list[PendingOp] = []
    # Other ids than the runs' own, which were carried out on the old store.
    token = secrets.token_hex(8)
    unreadable: list[str] = []
    count = 0
    for number, row in enumerate(rows, 1):
        try:
            values: dict[str, Any] = (await snapshot_of(graph, thread(row["run_id"]), checkpoints)).values
        except StorageError:
            unreadable.append(row["run_id"])
        else:
            puts = _puts(values, row)
            count += len(puts)
            merits += _credits(values, row, token)
            if not dry_run:
                await memories.take(puts)
        if progress is not None:
            progress(number, len(rows))
    if not dry_run:
        await memories.flush()
        # Behind all experiences: a credit for what is not there is dropped.
        await memories.take(merits)
        await memories.flush()
    return Rebuilt(runs=len(rows), experiences=count, unreadable=unreadable, aside=aside, done=not dry_run)


def _puts(values: dict[str, Any], row: RunRow) -> list[PendingOp]:
    generator = memory_namespace(row["models"]["generator"], row["owner"])
    put = experience_ops(values, row["run_id"], generator)
    return [{**op, "value": {**op["value"], "at": row["updated"]}} for op in put]


def _credits(values: dict[str, Any], row: RunRow, token: str) -> list[PendingOp]:
    judged = {turn["number"] for turn in values.get("rounds") or []}
    recalls = cast("list[Recall]", values.get("recalls") or [])
    name = f"rebuilt/{token}/{row['run_id']}"
    return [op for recall in recalls if recall["round"] in judged for op in credit_ops(recall, values, name)]
