"""How many requests an endpoint gets at a time, and whose turn it is.

An endpoint that answers 429 gets fewer at a time and rests as long as it says; each answer lets a part of one
more in again. That is how TCP finds what a line carries: halve on a loss, add on success.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gems.errors import RateLimitError
from gems.observability.logging import current_run

# Rests longer than that are between the endpoint and whoever asked; see `gems.models.http`.
_LONGEST_REST_S = 60.0


class Places:
    """The places at an endpoint, handed out to runs in turn: one with many questions does not hold up others.

    May be used from several event loops, one after the other.

    Args:
        most: Requests at a time, from 1.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._allowed = float(most)
        self._taken = 0
        # Counts reductions: of all requests under way when one came, one alone reduces.
        self._era = 0
        self._rests_until = -math.inf
        # The event loop that will hand places out after the rest; another one may have ended meanwhile.
        self._waking: asyncio.AbstractEventLoop | None = None
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def allowed(self) -> int:
        """Requests at a time that the endpoint is given now, from 1."""
        return int(self._allowed)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """A place for one request, as soon as it is one's turn.

        A `RateLimitError` that leaves the block is learnt from.
        """
        await self._turn()
        era = self._era
        try:
            yield
            self._allowed = min(self._most, self._allowed + 1 / self._allowed)
        except RateLimitError as error:
            self._reduce(era, error.retry_after or 0.0)
            raise
        finally:
            self._taken -= 1
            self._hand_out()

    async def _turn(self) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(current_run(), deque()).append(mine)
        self._hand_out()
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():
                # It was given a place in the same moment.
                self._taken -= 1
                self._hand_out()
            raise

    def _hand_out(self) -> None:
        """Give free places away, one to each run in turn."""
        while self._waiting and self._taken < self.allowed and self._is_awake():
            asker, queue = self._waiting.popitem(last=False)
            first = queue.popleft()
            if queue:
                self._waiting[asker] = queue
            if not first.cancelled():
                first.set_result(None)
                self._taken += 1

    def _is_awake(self) -> bool:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._rests_until:
            return True
        if self._waking is not loop:
            self._waking = loop
            loop.call_at(self._rests_until, self._wake)
        return False

    def _wake(self) -> None:
        self._waking = None
        self._hand_out()

    def _reduce(self, era: int, rest_s: float) -> None:
        if era == self._era:
            self._era += 1
            self._allowed = max(1.0, self._allowed / 2)
        if rest_s <= _LONGEST_REST_S:
            self._rests_until = max(self._rests_until, asyncio.get_running_loop().time() + rest_s)
