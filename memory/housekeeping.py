"""Ledger methods for forking, deleting and cleanup.

Every step is one statement. A new run is listed last, and a deleted one stays listed as long as anything of
it is left, so that a process that dies between two steps leaves nothing that cannot be repeated.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

_RUN_TABLES = ("answers", "drawings", "forks", "runs", "owners")
_SOURCE_KEY = '"source": '
"""Key of the id of a source image in a run's options, as JSON."""


class Housekeeping(ABC):
    """A part of `Ledger`, which implements the access to the tables."""

    @abstractmethod
    async def _all(self, sql: str, values: tuple[Any, ...]) -> Sequence[Any]: ...

    @abstractmethod
    async def _write(self, sql: str, values: tuple[Any, ...]) -> None: ...

    async def enter_fork(self, run: str, source: str, number: int) -> None:
        """Record that `run` shares the images of `source` up to round `number`; `begin` lists the run."""
        await self._write(
            "INSERT INTO drawings (run, round, candidate, fingerprint, at, request, result)"
            " SELECT CAST(? AS TEXT), round, candidate, fingerprint, at, request, result"
            " FROM drawings WHERE run=? AND round<=?",
            (run, source, number),
        )
        await self._write("INSERT INTO forks (run, source, round) VALUES (?,?,?)", (run, source, number))

    async def forget(self, run: str) -> None:
        """Delete everything about a run; runs forked from it keep the reference."""
        for table in _RUN_TABLES:
            await self._write(f"DELETE FROM {table} WHERE run=?", (run,))  # noqa: S608 - names of our own

    async def running(self) -> list[str]:
        """Return the runs that are marked as running, including killed ones."""
        return [row["run"] for row in await self._all("SELECT run FROM runs WHERE status='running'", ())]

    async def images_of(self, run: str) -> set[str]:
        """Return the ids of all images generated for a run, and of its source image."""
        rows = await self._all("SELECT result FROM drawings WHERE run=?", (run,))
        edited = await self._all("SELECT options FROM runs WHERE run=?", (run,))
        return _generated_images(rows) | _source_images(edited)

    async def images_of_others(self, run: str) -> set[str]:
        """Return the ids of the images of all other runs; of all runs if `run` is empty."""
        rows = await self._all("SELECT DISTINCT result FROM drawings WHERE run<>?", (run,))
        edited = await self._all(
            "SELECT DISTINCT options FROM runs WHERE run<>? AND options LIKE ?", (run, f'%{_SOURCE_KEY}"%')
        )
        return _generated_images(rows) | _source_images(edited)

    async def drawn_for(self, owner: str, since: datetime) -> int:
        """Count the images generated for an owner's runs since a time."""
        (row,) = await self._all(
            "SELECT count(*) AS number FROM drawings JOIN owners ON owners.run = drawings.run"
            " WHERE owners.owner=? AND drawings.at >= ?",
            (owner, since.astimezone(UTC).isoformat(timespec="milliseconds")),
        )
        return int(row["number"])

    async def owns_image(self, owner: str, image: str) -> bool:
        """Return whether an image id (64 hexadecimal digits) belongs to a run of an owner."""
        # Matched with its JSON key: prompts are in there too, but their quotation marks are escaped.
        rows = await self._all(
            "SELECT 1 AS found FROM drawings JOIN owners ON owners.run = drawings.run"
            " WHERE owners.owner=? AND drawings.result LIKE ?"
            " UNION ALL SELECT 1 AS found FROM runs JOIN owners ON owners.run = runs.run"
            " WHERE owners.owner=? AND runs.options LIKE ? LIMIT 1",
            (owner, f'%"image": "{image}"%', owner, f'%{_SOURCE_KEY}"{image}"%'),
        )
        return bool(rows)

    async def drawn_by_run(self) -> dict[str, int]:
        """Count the generated images of each run that has any."""
        rows = await self._all("SELECT run, count(*) AS number FROM drawings GROUP BY run", ())
        return {row["run"]: row["number"] for row in rows}

    async def rows_of(self, run: str) -> int:
        """Count the rows of a run."""
        counts = " + ".join(f"(SELECT count(*) FROM {table} WHERE run=?)" for table in _RUN_TABLES)  # noqa: S608
        (row,) = await self._all(f"SELECT {counts} AS number", (run,) * len(_RUN_TABLES))
        return int(row["number"])

    async def unlisted(self) -> dict[str, str]:
        """Return runs that have rows but are not in the index, with the time of the last entry.

        Runs of LangGraph Studio and of programs that use the graph without the service are of this kind.
        """
        rows = await self._all(
            "SELECT run, max(at) AS newest FROM"
            " (SELECT run, at FROM drawings UNION ALL SELECT run, at FROM answers"
            " UNION ALL SELECT run, '' FROM forks UNION ALL SELECT run, '' FROM owners) AS entries"
            " WHERE run NOT IN (SELECT run FROM runs) GROUP BY run",
            (),
        )
        return {row["run"]: row["newest"] for row in rows}


def _generated_images(rows: Sequence[Any]) -> set[str]:
    return {json.loads(row["result"])["image"] for row in rows}


def _source_images(rows: Sequence[Any]) -> set[str]:
    sources = (json.loads(row["options"]).get("source") for row in rows)
    return {source for source in sources if source}
