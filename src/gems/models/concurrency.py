"""Limit the concurrent requests to an endpoint, fairly between runs.

On HTTP 429 the limit is halved and requests pause for Retry-After; each success raises it again, as in TCP's
congestion control (additive increase, multiplicative decrease).
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gems.errors import RateLimitError
from gems.observability.logging import current_run

# A longer Retry-After ends the request at once (`gems.models.http`) and must not stop all others.
_MAX_PAUSE_S = 60.0


class AdaptiveLimiter:
    """Grants up to `most` (at least 1) slots to waiting runs in turn, in one event loop after the other."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._allowed = float(most)
        self._taken = 0
        # Counts reductions: of all requests in flight at a reduction, only the first one reduces.
        self._era = 0
        self._paused_until = -math.inf
        # The event loop that grants slots after the pause; the loop of an earlier pause may have ended.
        self._waking: asyncio.AbstractEventLoop | None = None
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def allowed(self) -> int:
        """Current limit of concurrent requests, at least 1."""
        return int(self._allowed)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot and hold it; a `RateLimitError` that leaves the block lowers the limit."""
        await self._acquire()
        era = self._era
        try:
            yield
            self._allowed = min(self._most, self._allowed + 1 / self._allowed)
        except RateLimitError as error:
            self._reduce(era, error.retry_after or 0.0)
            raise
        finally:
            self._taken -= 1
            self._grant_slots()

    async def _acquire(self) -> None:
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(current_run(), deque()).append(granted)
        self._grant_slots()
        try:
            await granted
        except asyncio.CancelledError:
            if not granted.cancelled():
                # The slot was granted just before the cancellation.
                self._taken -= 1
                self._grant_slots()
            raise

    def _grant_slots(self) -> None:
        """Grant free slots, one to each run in turn."""
        while self._waiting and self._taken < self.allowed and self._is_awake():
            run, queue = self._waiting.popitem(last=False)
            first = queue.popleft()
            if queue:
                self._waiting[run] = queue
            if not first.cancelled():
                first.set_result(None)
                self._taken += 1

    def _is_awake(self) -> bool:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._paused_until:
            return True
        if self._waking is not loop:
            self._waking = loop
            loop.call_at(self._paused_until, self._wake)
        return False

    def _wake(self) -> None:
        self._waking = None
        self._grant_slots()

    def _reduce(self, era: int, pause_s: float) -> None:
        if era == self._era:
            self._era += 1
            self._allowed = max(1.0, self._allowed / 2)
        if pause_s <= _MAX_PAUSE_S:
            self._paused_until = max(self._paused_until, asyncio.get_running_loop().time() + pause_s)
