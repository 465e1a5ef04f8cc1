"""Rebuild the store of experiences from the trajectories of all runs."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from gems.errors import StorageError
from gems.memory.experience import PendingOp, credit_ops, experience_ops, memory_namespace
from gems.memory_reports import Rebuilt
from gems.resources import Resources
from gems.runs.fork import Graph, thread
from gems.runs.memory_admin import MemoryAdmin
from gems.runs.recovery import read_snapshot
from gems.types import Recall, RunRow


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
