"""A generator behind the stub that draws only as many images as it is allowed to."""

from __future__ import annotations

import threading
from collections import Counter

import httpx

from gems.generation import ImageRequest
from tests.support.http_server import until
from tests.support.pausable_models import PATIENCE_S
from tests.support.stub import StubServer
from tests.support.stub.models import flat_picture


class Gate:
    """Draws so many images, and holds the requests for more until they are allowed or given up.

    Attributes:
        drawn: How often each image was drawn and handed over, by prompt and seed.
        waiting: Requests that are held.
    """

    def __init__(self) -> None:
        self.drawn: Counter[tuple[str, int]] = Counter()
        self.waiting = 0
        self._changed = threading.Condition()
        self._allowed = 0
        self._generation = 0

    def allow(self, more: int) -> None:
        with self._changed:
            self._allowed += more
            self._changed.notify_all()

    def give_up(self) -> None:
        """Whoever waits has been killed, and gets nothing any more."""
        with self._changed:
            self._generation += 1
            self._allowed = 0
            self._changed.notify_all()

    def give_up_all(self, stub: StubServer) -> None:
        """Let every request of a process that has ended end, also what it sent and the server has not read yet."""
        # The server has read what came earlier once it answers this.
        httpx.get(f"{stub.base_url}/models", timeout=PATIENCE_S).raise_for_status()

        def is_idle() -> bool:
            self.give_up()
            return stub.under_way() == 0

        until(is_idle)

    def draw(self, request: ImageRequest) -> bytes:
        with self._changed:
            came = self._generation
            self.waiting += 1
            self._changed.wait_for(lambda: self._allowed > 0 or self._generation != came, PATIENCE_S)
            self.waiting -= 1
            if self._generation != came or self._allowed == 0:
                raise ConnectionError("Nobody waits for this any more.")
            self._allowed -= 1
            self.drawn[request.prompt, request.seed] += 1
        return flat_picture(request)
