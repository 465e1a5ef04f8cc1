"""Requests that wait until their key may start another run: in order for each key, fair between keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count

from gems.errors import RequestError

_REMEMBERED = 1000
"""Keys whose last start is known; others go first."""
_POLL_S = 0.5
"""Seconds between attempts, since places of other servers become free without a notice."""


class TooManyRunsError(RequestError):
    """The key's limit of runs in parallel is reached, and so is that of waiting requests or their time."""

    default_hint = "Wait until one of your runs has finished."
    retry_after_s: float = 10.0
    should_retry = True


class QuotaReachedError(TooManyRunsError):
    """A limit of the key for 24 hours is reached; `retry_after_s` says when enough of it is free again."""

    default_hint = "Request fewer rounds, or wait."
    should_retry = False

    def __init__(self, message: str, *, retry_after_s: float, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class NoPlaceError(TooManyRunsError):
    """There is no place for another run at the moment; `for_key` says that it is the key's limit."""

    for_key = True


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """Where a request waits among those of its key, from 1, and how many wait."""

    position: int
    length: int

    def __str__(self) -> str:
        return f"{self.position} of {self.length}"


@dataclass(slots=True, eq=False)
class _Ticket:
    owner: str
    tell: Callable[[QueuePlace], None] | None
    is_blocked: bool = False
    """Whether only its own key's limit keeps it waiting, so that others may go before."""
    told: QueuePlace | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class RunQueue:
    """Requests that wait; `most` may wait for each key.

    Among keys the one goes first that has started a run least recently.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[str, list[_Ticket]] = {}
        self._last_start: dict[str, int] = {}
        self._number = count(1)
        self._turn = asyncio.Lock()

    def lengths(self) -> dict[str, int]:
        """Return how many requests wait, by key."""
        return {owner: len(tickets) for owner, tickets in self._waiting.items()}

    def notify(self) -> None:
        """Say that a place may be free."""
        for ticket in self._tickets():
            ticket.is_blocked = False
            ticket.wake.set()

    async def start(
        self,
        owner: str,
        attempt: Callable[[], Awaitable[None]],
        until: float,
        tell: Callable[[QueuePlace], None] | None = None,
    ) -> None:
        """Await `attempt` in turn until it raises no NoPlaceError; `tell` gets the place in the queue, if it must wait.

        `until` is a time of `time.monotonic()`. Raises TooManyRunsError if too many wait, or the time is up.
        """
        tickets = self._waiting.setdefault(owner, [])
        if len(tickets) >= self._most > 0:
            raise TooManyRunsError(f"{len(tickets)} requests of this key are waiting already, which is the limit.")
        ticket = _Ticket(owner, tell)
        tickets.append(ticket)
        try:
            while True:
                refused = await self._try(ticket, attempt)
                if refused is None:
                    return
                left = until - time.monotonic()
                if left <= 0 or self._most == 0:
                    raise TooManyRunsError(refused.message, hint=refused.hint) from None
                self._tell_places(owner)
                await self._sleep(ticket, min(left, _POLL_S))
        finally:
            tickets.remove(ticket)
            if not tickets:
                self._waiting.pop(owner, None)
            self._tell_places(owner)
            self.notify()

    async def _try(self, ticket: _Ticket, attempt: Callable[[], Awaitable[None]]) -> NoPlaceError | None:
        """Attempt to start if it is the ticket's turn; return why it must wait."""
        async with self._turn:
            if not self._is_next(ticket):
                return NoPlaceError("Other requests are waiting for a free place before this one.")
            try:
                await attempt()
            except NoPlaceError as error:
                ticket.is_blocked = error.for_key
                return error
            # The one that started last stands last.
            self._last_start.pop(ticket.owner, None)
            self._last_start[ticket.owner] = next(self._number)
            if len(self._last_start) > _REMEMBERED:
                del self._last_start[next(iter(self._last_start))]
            return None

    def _is_next(self, ticket: _Ticket) -> bool:
        if self._waiting[ticket.owner][0] is not ticket:
            return False
        heads = [tickets[0] for tickets in self._waiting.values() if tickets and not tickets[0].is_blocked]
        first = min(heads, key=lambda head: self._last_start.get(head.owner, 0), default=ticket)
        return ticket.is_blocked or first is ticket

    def _tickets(self) -> list[_Ticket]:
        return [ticket for tickets in self._waiting.values() for ticket in tickets]

    def _tell_places(self, owner: str) -> None:
        tickets = self._waiting.get(owner, [])
        for position, ticket in enumerate(tickets, 1):
            place = QueuePlace(position, len(tickets))
            if ticket.tell is not None and place != ticket.told:
                ticket.told = place
                ticket.tell(place)

    async def _sleep(self, ticket: _Ticket, seconds: float) -> None:
        try:
            await asyncio.wait_for(ticket.wake.wait(), seconds)
        except TimeoutError:
            ticket.is_blocked = False
        ticket.wake.clear()
