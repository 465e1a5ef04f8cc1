"""Filters of the index of runs, as SQL for SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gems.types import RunStatus

MOST = 2**62
"""The SQL limit for "no limit"."""
SCORE = "json_extract(summary, '$.score')"
"""SQL expression of a run's score in SQLite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Conditions on runs; all that are given must hold.

    `since` is included, `until` is not; `text` is part of the prompt, ignoring case; `min_score` is the least
    share of requirements that the best image meets, in [0, 1]; an empty `owner` selects runs without one.
    `working` is needed with `status`: the runs being worked on. Others marked as running were killed.
    """

    since: datetime | None = None
    until: datetime | None = None
    status: RunStatus | None = None
    text: str | None = None
    min_score: float | None = None
    owner: str | None = None
    working: frozenset[str] = field(default_factory=frozenset)

    def sql(self) -> tuple[str, tuple[Any, ...]]:
        """Return an SQL condition and its values."""
        # Times are compared as texts, in the format of the index.
        simple = {
            "created >= ?": self.since and self.since.astimezone(UTC).isoformat(timespec="milliseconds"),
            "created < ?": self.until and self.until.astimezone(UTC).isoformat(timespec="milliseconds"),
            "lower(prompt) LIKE ? ESCAPE '!'": None if self.text is None else _containing(self.text.lower()),
            f"{SCORE} >= ?": self.min_score,
            "coalesce(owners.owner, '') = ?": self.owner,
        }
        given: dict[str, tuple[Any, ...]] = {sql: (v,) for sql, v in simple.items() if v is not None}
        if self.status is not None:
            sql, names = self._status(self.status)
            given[sql] = names
        return " AND ".join(["1=1", *given]), tuple(value for values in given.values() for value in values)

    def _status(self, status: RunStatus) -> tuple[str, tuple[Any, ...]]:
        names = tuple(sorted(self.working))
        # An empty list is not portable SQL; no run has an empty id.
        is_working = f"runs.run IN ({', '.join('?' for _ in names) or repr('')})"
        if status == "running":
            return f"(status = 'running' AND {is_working})", names
        if status == "interrupted":
            return f"(status = 'interrupted' OR (status = 'running' AND NOT {is_working}))", names
        return "status = ?", (status,)


ALL_RUNS = RunFilter()


def _containing(text: str) -> str:
    return f"%{text.replace('!', '!!').replace('%', '!%').replace('_', '!_')}%"
