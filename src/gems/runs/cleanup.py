"""Delete runs, garbage collection."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from gems.memory.file_store import remove_file
from gems.memory.images import ImageStore
from gems.memory.sqlite import storage_error
from gems.resources import Resources
from gems.runs.fork import Graph, thread
from gems.settings import Settings
from gems.types import RunRow

_IMAGE_FILE = re.compile(r"([0-9a-f]{64})\.png")
_DELETING = ".going-"
_UNFINISHED = (".new-", _DELETING)
"""Prefixes of files that are being written or deleted."""
MIN_AGE = timedelta(hours=1)
"""Younger images are never deleted: a run in progress stores them before its ledger refers to them."""


def remove_image(images: ImageStore, image: str, before: float) -> bool:
    """Delete an image unless it was written again since `before`; return whether it was deleted.

    The file is moved aside first and its time checked then: a process that writes it meanwhile either is
    noticed, or finds no file and writes it again.
    """
    path = images.path(image)
    aside = path.with_name(f"{_DELETING}{path.name}")
    try:
        path.replace(aside)
        if aside.stat().st_mtime >= before:
            aside.replace(path)
            return False
        aside.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise storage_error(error, path) from error
    return True


def _delete_images(images: ImageStore, sizes: dict[str, int], cutoff: float) -> dict[str, int]:
    """Delete images if possible; return the deleted ones with their sizes. Blocking."""
    return {image: size for image, size in sizes.items() if remove_image(images, image, cutoff)}


def _files(folder: Path, before: float) -> dict[Path, int]:
    """Return the files that were not written since `before` with their sizes in bytes. Blocking."""
    found: dict[Path, int] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            # Another process may have deleted it or finished writing it.
            with suppress(FileNotFoundError):
                status = Path(parent, name).stat()
                if status.st_mtime < before:
                    found[Path(parent, name)] = status.st_size
    return found


class Deletion(BaseModel):
    """What deleting a run removes."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    prompt: str
    rows: int = Field(description="Rows of the ledger.")
    images: int = Field(description="Images that no other run uses.")
    image_bytes: int
    kept_images: int = Field(description="Images that other runs use too, and newer ones left for `gems gc`.")
    path: str | None = Field(description="The image in `outputs`; files written elsewhere stay.")
    done: bool = Field(description="False for a dry run.")


class Garbage(BaseModel):
    """Unreferenced files."""

    model_config = ConfigDict(frozen=True)

    images: int = Field(description="Images that no run refers to.")
    image_bytes: int
    leftovers: int = Field(description="Unfinished files of killed processes.")
    leftover_bytes: int
    locks: int = Field(description="Lock files of deleted runs.")
    unlisted_runs: int = Field(
        description="Runs that `gems runs` does not list, e.g. of Studio or your own programs. They are "
        "deleted only on request."
    )
    unlisted_rows: int = Field(description="Their rows in the ledger, which are deleted with them.")
    done: bool = Field(description="False for a dry run.")

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to delete, apart from runs that are not listed."""
        return not (self.images or self.leftovers or self.locks)


async def delete_run(graph: Graph, row: RunRow, resources: Resources, settings: Settings, *, dry_run: bool) -> Deletion:
    """Delete a run: its checkpoints, its rows, the image in `outputs`, and images that only it uses.

    Raises RunBusyError if it is being worked on. After a StorageError, repeating the call deletes the rest.
    """
    run, started = row["run_id"], time.time()
    async with resources.locks.hold(run):
        drawn, of_state = await resources.ledger.images_of(run), await _images_of_states(graph, [run])
        own, masks = drawn | of_state, of_state - drawn
        output_image = _output_image(row, settings)
        rows = await resources.ledger.rows_of(run)
        if not dry_run:
            await resources.checkpointer.adelete_thread(run)
            if output_image is not None:
                await asyncio.to_thread(remove_file, output_image)
            # Rows are deleted before images: a run that is forked or generates meanwhile enters its own.
            await resources.ledger.forget(run)
        others = await resources.ledger.images_of_others(run)
        others |= await _images_of_states(graph, await _runs_with_missing_rows(resources, run))
        if masks:
            # Only states refer to the masks of persons, which forks share.
            every = [row["run_id"] for row in await resources.ledger.runs() if row["run_id"] != run]
            others |= masks & await _images_of_states(graph, every)
        cutoff = await _cutoff_time(resources, run, started)
        free = await asyncio.to_thread(_old_images, resources.images, own - others, cutoff)
        if not dry_run:
            free = await asyncio.to_thread(_delete_images, resources.images, free, cutoff)
            await resources.locks.remove_held(run)
    return Deletion(
        run_id=run,
        prompt=row["prompt"],
        rows=rows,
        images=len(free),
        image_bytes=sum(free.values()),
        kept_images=len(own) - len(free),
        path=str(output_image) if output_image else None,
        done=not dry_run,
    )


async def clear_garbage(
    graph: Graph,
    resources: Resources,
    settings: Settings,
    *,
    dry_run: bool,
    min_age: timedelta = MIN_AGE,
    unlisted: bool = False,
) -> Garbage:
    """Delete unreferenced images and files; files younger than `min_age`, at least an hour, are kept.

    With `unlisted`, also delete runs that have rows but are not listed.
    """
    cutoff = time.time() - max(min_age, MIN_AGE).total_seconds()
    listed = {row["run_id"] for row in await resources.ledger.runs()}
    cutoff_text = datetime.fromtimestamp(cutoff, UTC).isoformat(timespec="milliseconds")
    old = [run for run, newest in (await resources.ledger.unlisted()).items() if newest < cutoff_text]
    unlisted_runs = [run for run in old if not await resources.locks.is_busy(run)]
    rows = sum([await resources.ledger.rows_of(run) for run in unlisted_runs])
    if unlisted and not dry_run:
        for run in unlisted_runs:
            await resources.checkpointer.adelete_thread(run)
            await resources.ledger.forget(run)
    used = await _used_images(graph, resources, without=unlisted_runs if unlisted else ())
    stored = await asyncio.to_thread(_files, resources.images.folder, cutoff)
    named = {match[1]: size for path, size in stored.items() if (match := _IMAGE_FILE.fullmatch(path.name))}
    free = {image: size for image, size in named.items() if image not in used}
    saved = await asyncio.to_thread(_files, settings.home / "outputs", cutoff)
    files = {path: size for path, size in (stored | saved).items() if path.name.startswith(_UNFINISHED)}
    locks = await resources.locks.idle(listed)
    if not dry_run:
        free = await asyncio.to_thread(_delete_images, resources.images, free, cutoff)
        files = {p: size for p, size in files.items() if await asyncio.to_thread(remove_file, p)}
        locks = [run for run in locks if await resources.locks.remove(run)]
    return Garbage(
        images=len(free),
        image_bytes=sum(free.values()),
        leftovers=len(files),
        leftover_bytes=sum(files.values()),
        locks=len(locks),
        unlisted_runs=len(unlisted_runs),
        unlisted_rows=rows,
        done=not dry_run,
    )


async def _used_images(graph: Graph, resources: Resources, without: Collection[str]) -> set[str]:
    """Return the ids of all images that a row or the state of a run refers to."""
    rows = await resources.ledger.runs()
    used = {row["summary"]["image"] for row in rows if row["summary"].get("image")}
    # Before a run's first image, only its row may refer to the source image and its mask.
    used |= {row["options"].get(name, "") for row in rows for name in ("source", "mask")}
    if without:
        drawn = await resources.ledger.drawn_by_run()
        for run in drawn.keys() - set(without):
            used |= await resources.ledger.images_of(run)
    else:
        used |= await resources.ledger.images_of_others("")
    # Of runs that are not listed, only their states refer to images that persons attached.
    unlisted = (await resources.ledger.unlisted()).keys() - set(without)
    return used | await _images_of_states(graph, [*(row["run_id"] for row in rows), *unlisted])


async def _runs_with_missing_rows(resources: Resources, without: str) -> list[str]:
    """Return other runs that may refer to images missing in the ledger, e.g. because it was not writable."""
    drawn = await resources.ledger.drawn_by_run()
    rows = [row for row in await resources.ledger.runs() if row["run_id"] != without]
    return [row["run_id"] for row in rows if drawn.get(row["run_id"], 0) < row["summary"].get("images", 1)]


async def _images_of_states(graph: Graph, runs: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for run in runs:
        values: dict[str, Any] = (await graph.aget_state(thread(run))).values
        found |= {candidate["image"] for candidate in values.get("drawn") or ()}
        for round_ in values.get("rounds") or ():
            found |= {candidate["image"] for candidate in round_["candidates"]} | {round_.get("mask", "")}
        options = values.get("options") or {}
        found |= {options.get("source", ""), options.get("mask", ""), (values.get("step") or {}).get("mask", "")}
        found.discard("")
    return found


async def _cutoff_time(resources: Resources, run: str, started: float) -> float:
    """Return the time before which an image must have been written to be deleted with a run."""
    running = [name for name in await resources.ledger.running() if name != run]
    busy = [name for name in running if await resources.locks.is_busy(name)]
    # Another run in progress may have generated the same image without having entered it yet.
    return started - MIN_AGE.total_seconds() if busy else started


def _old_images(images: ImageStore, names: Collection[str], cutoff: float) -> dict[str, int]:
    """Return the sizes in bytes of those of the images that were last written before `cutoff`. Blocking."""
    found = {image: images.path(image).stat() for image in names if images.path(image).exists()}
    return {image: status.st_size for image, status in found.items() if status.st_mtime < cutoff}


def _output_image(row: RunRow, settings: Settings) -> Path | None:
    """Return the image that was written to the home because the user named no other target."""
    path = settings.home / "outputs" / f"{row['run_id']}.png"
    return path if path.is_file() else None
