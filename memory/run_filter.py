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

    Attributes:
        since: Started at this time or later.
        until: Started before this time.
        status: Its actual status.
        text: Part of its prompt, ignoring case.
        min_score: Its best image meets at least this share of the requirements, in [0, 1].
        owner: The owner; an empty text for runs without one.
        working: The runs that are being worked on right now: other runs marked as running were killed. Needed
            if `status` is given.
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
        parts: list[tuple[str, tuple[Any, ...]]] = [("1=1", ())]
        if self.since is not None:
            parts.append(("created >= ?", (_format_time(self.since),)))
        if self.until is not None:
            parts.append(("created < ?", (_format_time(self.until),)))
        if self.status is not None:
            parts.append(self._status(self.status))
        if self.text is not None:
            parts.append(("lower(prompt) LIKE ? ESCAPE '!'", (f"%{_escape_like(self.text.lower())}%",)))
        if self.min_score is not None:
            parts.append((f"{SCORE} >= ?", (self.min_score,)))
        if self.owner is not None:
            parts.append(("coalesce(owners.owner, '') = ?", (self.owner,)))
        return " AND ".join(part for part, _ in parts), tuple(v for _, values in parts for v in values)

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


def _format_time(moment: datetime) -> str:
    """Format a time as the index does; such texts sort by time."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _escape_like(text: str) -> str:
    """Escape the wildcards of LIKE."""
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")
