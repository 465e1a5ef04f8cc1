"""What forking, deleting and cleaning up need of the ledger.

Every step is one statement, and the steps come in such an order that a process which dies between two of them
leaves nothing that cannot be done again: a run is listed last when it comes, and when it goes for as long as
anything of it is left.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

_TABLES_OF_A_RUN = ("answers", "drawings", "forks", "runs", "owners")
_SOURCE = '"source": '
"""What stands before the id of an edited picture in a run's options, as JSON."""


class Housekeeping(ABC):
    """A part of `Ledger`, which knows how to reach its rows."""

    @abstractmethod
    async def _all(self, sql: str, values: tuple[Any, ...]) -> Sequence[Any]: ...

    @abstractmethod
    async def _write(self, sql: str, values: tuple[Any, ...]) -> None: ...

    async def enter_fork(self, run: str, source: str, number: int) -> None:
        """Enter that `run` shares what `source` drew up to round `number`; `begin` lists it."""
        await self._write(
            "INSERT INTO drawings (run, round, candidate, fingerprint, at, request, result)"
            " SELECT CAST(? AS TEXT), round, candidate, fingerprint, at, request, result"
            " FROM drawings WHERE run=? AND round<=?",
            (run, source, number),
        )
        await self._write("INSERT INTO forks (run, source, round) VALUES (?,?,?)", (run, source, number))

    async def forget(self, run: str) -> None:
        """Take out everything about a run; others that were forked from it still say so."""
        for table in _TABLES_OF_A_RUN:
            await self._write(f"DELETE FROM {table} WHERE run=?", (run,))  # noqa: S608 - names of our own

    async def running(self) -> list[str]:
        """The runs that are marked as running, killed ones among them."""
        return [row["run"] for row in await self._all("SELECT run FROM runs WHERE status='running'", ())]

    async def images_of(self, run: str) -> set[str]:
        """The ids of all images that were drawn for a run, and of the one that it edits."""
        rows = await self._all("SELECT result FROM drawings WHERE run=?", (run,))
        edited = await self._all("SELECT options FROM runs WHERE run=?", (run,))
        return _drawn(rows) | _edited(edited)

    async def images_of_others(self, run: str) -> set[str]:
        """The ids of the images of any other run; of all runs where `run` is empty. See `images_of`."""
        rows = await self._all("SELECT DISTINCT result FROM drawings WHERE run<>?", (run,))
        edited = await self._all(
            "SELECT DISTINCT options FROM runs WHERE run<>? AND options LIKE ?", (run, f'%{_SOURCE}"%')
        )
        return _drawn(rows) | _edited(edited)

    async def drawn_for(self, owner: str, since: datetime) -> int:
        """How many images were drawn for the runs of an owner since a moment."""
        (row,) = await self._all(
            "SELECT count(*) AS number FROM drawings JOIN owners ON owners.run = drawings.run"
            " WHERE owners.owner=? AND drawings.at >= ?",
            (owner, since.astimezone(UTC).isoformat(timespec="milliseconds")),
        )
        return int(row["number"])

    async def owns_image(self, owner: str, image: str) -> bool:
        """Whether an image was drawn for a run of an owner, or is edited by one.

        Args:
            owner: Whose runs.
            image: Its id, which must be one: 64 hexadecimal digits.
        """
        # With the key before it: what users write stands in there too, but never with such quotation marks.
        found = await self._all(
            "SELECT 1 AS found FROM drawings JOIN owners ON owners.run = drawings.run"
            " WHERE owners.owner=? AND drawings.result LIKE ?"
            " UNION ALL SELECT 1 AS found FROM runs JOIN owners ON owners.run = runs.run"
            " WHERE owners.owner=? AND runs.options LIKE ? LIMIT 1",
            (owner, f'%"image": "{image}"%', owner, f'%{_SOURCE}"{image}"%'),
        )
        return bool(found)

    async def drawn_by_run(self) -> dict[str, int]:
        """How many drawings are entered for each run that has any."""
        rows = await self._all("SELECT run, count(*) AS number FROM drawings GROUP BY run", ())
        return {row["run"]: row["number"] for row in rows}

    async def rows_of(self, run: str) -> int:
        """How many rows there are of a run."""
        counts = " + ".join(f"(SELECT count(*) FROM {table} WHERE run=?)" for table in _TABLES_OF_A_RUN)  # noqa: S608
        (row,) = await self._all(f"SELECT {counts} AS number", (run,) * len(_TABLES_OF_A_RUN))
        return int(row["number"])

    async def unlisted(self) -> dict[str, str]:
        """Runs that have rows but are not in the index, and when something was last entered for each.

        Studio's are of this kind, and those of programs that use the graph without the service.
        """
        rows = await self._all(
            "SELECT run, max(at) AS newest FROM"
            " (SELECT run, at FROM drawings UNION ALL SELECT run, at FROM answers"
            " UNION ALL SELECT run, '' FROM forks UNION ALL SELECT run, '' FROM owners) AS entries"
            " WHERE run NOT IN (SELECT run FROM runs) GROUP BY run",
            (),
        )
        return {row["run"]: row["newest"] for row in rows}


def _drawn(rows: Sequence[Any]) -> set[str]:
    return {json.loads(row["result"])["image"] for row in rows}


def _edited(rows: Sequence[Any]) -> set[str]:
    sources = (json.loads(row["options"]).get("source") for row in rows)
    return {source for source in sources if source}
