"""Which runs of the index are wanted, as SQL that every database of ours understands."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gems.memory.ledger import RunStatus

MOST = 2**62
"""The limit where there is none."""
SCORE = "json_extract(summary, '$.score')"
"""A run's score in SQLite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """What is wanted of a run; everything that is given must hold.

    Attributes:
        since: Begun at this moment or later.
        until: Begun before this moment.
        status: Its true status.
        text: Part of its prompt, in whatever case.
        min_score: Its best image meets at least this share of the requirements, in [0, 1].
        owner: It is this owner's; an empty text for runs without one.
        working: The runs that are being worked on right now: of those that are marked as running, all
            others were killed. Needed where `status` is given.
    """

    since: datetime | None = None
    until: datetime | None = None
    status: RunStatus | None = None
    text: str | None = None
    min_score: float | None = None
    owner: str | None = None
    working: frozenset[str] = field(default_factory=frozenset)

    def sql(self) -> tuple[str, tuple[Any, ...]]:
        """A condition and its values."""
        parts: list[tuple[str, tuple[Any, ...]]] = [("1=1", ())]
        if self.since is not None:
            parts.append(("created >= ?", (_stamp(self.since),)))
        if self.until is not None:
            parts.append(("created < ?", (_stamp(self.until),)))
        if self.status is not None:
            parts.append(self._status(self.status))
        if self.text is not None:
            parts.append(("lower(prompt) LIKE ? ESCAPE '!'", (f"%{_literal(self.text.lower())}%",)))
        if self.min_score is not None:
            parts.append((f"{SCORE} >= ?", (self.min_score,)))
        if self.owner is not None:
            parts.append(("coalesce(owners.owner, '') = ?", (self.owner,)))
        return " AND ".join(part for part, _ in parts), tuple(v for _, values in parts for v in values)

    def _status(self, status: RunStatus) -> tuple[str, tuple[Any, ...]]:
        names = tuple(sorted(self.working))
        # An empty list is not portable; no run has an empty id.
        among = f"runs.run IN ({', '.join('?' for _ in names) or repr('')})"
        if status == "running":
            return f"(status = 'running' AND {among})", names
        if status == "interrupted":
            return f"(status = 'interrupted' OR (status = 'running' AND NOT {among}))", names
        return "status = ?", (status,)


ALL_RUNS = RunFilter()


def _stamp(moment: datetime) -> str:
    """As the index writes times: such texts sort like the moments they stand for."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _literal(text: str) -> str:
    """The text without the signs that LIKE would act upon."""
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")
