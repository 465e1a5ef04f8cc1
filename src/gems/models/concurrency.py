"""Limit the concurrent requests to an endpoint, fairly between runs, to what it can take.

Nobody has to know how many that are. The limit doubles as long as requests wait for a slot and the endpoint takes no
longer for it; from the first sign of a limit of the endpoint on it grows slowly. On HTTP 429, and where the endpoint
takes twice as long as with few requests, it is halved, as in TCP's congestion control.
"""

from __future__ import annotations

import asyncio
import math
import statistics
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gems.errors import ProviderTimeoutError, RateLimitError
from gems.observability.logging import current_run

# A longer Retry-After ends the request at once (`gems.models.http`) and must not stop all others.
_MAX_PAUSE_S = 60.0
_STEADY, _SLOWER, _SLOW = 1.25, 1.5, 2.0
"""How many times as long as at the lowest limit requests may take for the limit to double, to grow, not to be halved.

Servers that batch take somewhat longer for more requests and get more done all the same; where requests take twice as
long, half of that is waiting in the server's queue."""
_MOST_SLOW = 4.0
"""As which all that is slower counts: one request that hangs says nothing about the others."""
_FAST, _SLOWLY, _BY_ONE = 2.0, 1.125, 1.0
"""Factors by which the limit grows, by at least one: at first, once requests took longer, and once there was a 429."""
_SHARE_OF_PATIENCE = 0.25
"""Of the time after which a request is given up: what takes longer could wait too long behind twice as many."""


class AdaptiveLimiter:
    """Grants slots to waiting runs in turn, in one event loop after the other.

    Args:
        most: Highest limit, at least 1.
        start: The limit to begin with, below which only a 429 lowers it; `most` if omitted, and never more than that.
        patience_s: Seconds after which a request is given up.
    """

    def __init__(self, most: int, start: int | None = None, patience_s: float = math.inf) -> None:
        self._most = most
        self._least = most if start is None else min(start, most)
        self._patience_s = patience_s
        self._allowed = float(self._least)
        self._taken = 0
        # Of all requests in flight at a refusal, only the first one reduces.
        self._refusals = 0
        # Requests in flight at a change of the limit do not say how long they take with the new one.
        self._changes = 0
        self._growth = _FAST
        self._was_short = False
        # By kind of request, at the lowest limit: how long it takes.
        self._usual: dict[str, float] = {}
        self._measured: list[tuple[str, float]] = []
        # How many times as long requests took when they were measured last.
        self._slowness = 1.0
        self._paused_until = -math.inf
        # The event loop that grants slots after the pause; the loop of an earlier pause may have ended.
        self._waking: asyncio.AbstractEventLoop | None = None
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def allowed(self) -> int:
        """Current limit of concurrent requests, at least 1."""
        return int(self._allowed)

    @asynccontextmanager
    async def slot(self, kind: str = "") -> AsyncIterator[None]:
        """Wait for a slot and hold it; errors of the endpoint that leave the block may lower the limit.

        Requests of one `kind` take about as long as each other.
        """
        await self._acquire()
        refusals, changes, now = self._refusals, self._changes, asyncio.get_running_loop().time
        began = now()
        try:
            yield
            self._recover()
            self._measure(changes, kind, now() - began)
        except RateLimitError as error:
            self._refuse(refusals, error.retry_after or 0.0)
            raise
        except ProviderTimeoutError:
            self._measure(changes, kind, now() - began)
            raise
        finally:
            self._taken -= 1
            self._grant_slots()

    async def _acquire(self) -> None:
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(current_run(), deque()).append(granted)
        self._grant_slots()
        self._was_short |= not granted.done()
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

    def _refuse(self, refusals: int, pause_s: float) -> None:
        if refusals == self._refusals:
            self._refusals += 1
            self._growth = _BY_ONE
            self._set_limit(max(1.0, self._allowed / 2))
        if pause_s <= _MAX_PAUSE_S:
            self._paused_until = max(self._paused_until, asyncio.get_running_loop().time() + pause_s)

    def _recover(self) -> None:
        """Give back a part of what a 429 took away below the limit of the beginning."""
        if self._allowed < self._least:
            self._allowed = min(self._least, self._allowed + 1 / self._allowed)

    def _measure(self, changes: int, kind: str, seconds: float) -> None:
        """Take down how long a request took; after as many as there are slots, change the limit."""
        if changes != self._changes or self._most == self._least:
            return
        self._measured.append((kind, seconds))
        if len(self._measured) < self.allowed:
            return
        measured, self._measured = self._measured, []
        was_short, self._was_short = self._was_short or bool(self._waiting), False
        if not was_short:
            # With slots to spare nothing is known about the limit.
            return
        if self._allowed <= self._least:
            # A server that became slower or faster is measured anew.
            self._usual, self._slowness = {}, 1.0
        self._slowness = self._compare(measured)
        if self._slowness > _STEADY:
            self._growth = min(self._growth, _SLOWLY)
        if self._slowness >= _SLOW:
            self._set_limit(max(self._least, self._allowed / 2))
        elif self._slowness <= _SLOWER and max(s for _, s in measured) <= _SHARE_OF_PATIENCE * self._patience_s:
            self._set_limit(min(self._most, max(self._allowed + 1, self._allowed * self._growth)))

    def _compare(self, measured: list[tuple[str, float]]) -> float:
        """Return how many times as long as usual requests take in the mean, which decides how many get done."""
        known = [min(seconds / self._usual[kind], _MOST_SLOW) for kind, seconds in measured if self._usual.get(kind)]
        slowness = statistics.fmean(known) if known else self._slowness
        for kind in {kind for kind, _ in measured} - set(self._usual):
            found = [seconds for other, seconds in measured if other == kind]
            longest = _MOST_SLOW * statistics.median(found)
            # What was not asked before is as slow as the rest.
            self._usual[kind] = statistics.fmean(min(seconds, longest) for seconds in found) / slowness
        return slowness

    def _set_limit(self, limit: float) -> None:
        if limit != self._allowed:
            self._allowed = limit
            self._measured.clear()
            self._changes += 1
