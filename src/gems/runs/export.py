"""`Gems.export`: write training data from runs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from gems.errors import ImageMissingError, InvalidImageError, RunNotFoundError
from gems.memory.run_filter import ALL_RUNS, RunFilter
from gems.resources import Resources
from gems.results import RunResult
from gems.runs.dataset import DatasetWriter, Layout
from gems.runs.training_rows import ExportKind, ExportOptions, Selection, choose_split
from gems.types import RunRow

T = TypeVar("T")


class Exported(BaseModel):
    """What an export wrote."""

    model_config = ConfigDict(frozen=True)

    folder: str = Field(description="Where the dataset is; empty if there were no rows, and nothing was written.")
    kind: ExportKind
    layout: Layout
    runs: int = Field(description="Runs that were read.")
    rows: dict[str, int] = Field(description="Rows by split.")
    left_out: dict[str, int] = Field(description="What was left out, by reason.")


async def export_runs(  # noqa: PLR0913 - those of `Gems.export`
    resources: Resources,
    load: Callable[[RunRow], Awaitable[RunResult]],
    kind: ExportKind,
    folder: Path,
    *,
    runs: Sequence[str] = (),
    wanted: RunFilter = ALL_RUNS,
    owner: str = "",
    layout: Layout = "datasets",
    options: ExportOptions | None = None,
) -> Exported:
    """Write training data; see `Gems.export`."""
    options = options or ExportOptions()
    selection, read = Selection.start(kind, options), 0
    writer = await asyncio.to_thread(DatasetWriter, folder, kind, layout, options)
    with writer:
        async for row in _rows(resources, runs, wanted, owner, selection):
            read += 1
            result = await load(row)
            answers = await resources.ledger.answers(row["run_id"]) if kind == "trajectories" else []
            split = choose_split(result.prompt, options.splits)
            rows = list(selection.choose(result, answers))
            images = await _load(resources, {image for each in rows for image in _images_of(each)})
            lost = await _finish_in_thread(_add, writer, split, rows, images)
            selection.left_out += Counter({"rows whose images are gone or damaged": lost})
        await _finish_in_thread(writer.finish, selection.left_out)
    return Exported(
        folder=str(folder) if writer.rows.total() else "",
        kind=kind,
        layout=layout,
        runs=read,
        rows=dict(writer.rows),
        left_out=dict(sorted(selection.left_out.items())),
    )


async def _load(resources: Resources, names: set[str]) -> dict[str, bytes]:
    """Return the images that are there and whole."""

    async def load(name: str) -> tuple[str, bytes] | None:
        try:
            return name, await resources.images.load(name)
        except (ImageMissingError, InvalidImageError):
            return None

    return dict(found for found in await asyncio.gather(*map(load, names)) if found is not None)


def _add(writer: DatasetWriter, split: str, rows: Sequence[dict[str, Any]], images: Mapping[str, bytes]) -> int:
    """Add the rows whose images are there; return the number of the others. Blocking."""
    lost = 0
    for row in rows:
        named = _images_of(row)
        if not images.keys() >= set(named):
            lost += 1
            continue
        try:
            writer.add(split, row, {image: images[image] for image in named})
        except InvalidImageError:
            lost += 1
    return lost


async def _finish_in_thread(work: Callable[..., T], *given: Any) -> T:
    """Call a function in a thread and wait for its end even if cancelled: its files are removed or used after that."""
    working = asyncio.ensure_future(asyncio.to_thread(work, *given))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await working
        raise


async def _rows(
    resources: Resources, runs: Sequence[str], wanted: RunFilter, owner: str, selection: Selection
) -> AsyncIterator[RunRow]:
    """Yield the rows of the chosen runs: in the order in which they were named, or oldest first."""
    chosen = _named(resources, runs) if runs else resources.ledger.each_run(wanted)
    async for row in chosen:
        if row["owner"] != owner:
            selection.left_out["runs of another owner"] += 1
        elif not runs and not row["options"]["memory"]:
            selection.left_out["runs without memory, which were not named"] += 1
        elif row["status"] == "running" and await resources.locks.is_locked(row["run_id"]):
            selection.left_out["runs in progress"] += 1
        else:
            yield row


async def _named(resources: Resources, runs: Sequence[str]) -> AsyncIterator[RunRow]:
    found = []
    for run in dict.fromkeys(runs):
        if (row := await resources.ledger.run(run)) is None:
            raise RunNotFoundError(f"There is no run {run[:80]!r} in this home.")
        found.append(row)
    for row in found:
        yield row


def _images_of(row: dict[str, Any]) -> list[str]:
    named = [row[name] for name in ("chosen", "rejected", "image") if name in row]
    return list(dict.fromkeys([*named, *row.get("images", [])]))
