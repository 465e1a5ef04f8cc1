"""Prometheus metrics of runs. No label contains prompts or users."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gems.apps.run_manager import RunManager
from gems.apps.server.queue import RunQueue
from gems.errors import GemsError
from gems.events import Event, Finished
from gems.results import RunResult

_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
_REMEMBERED = 1000
Tokens = Mapping[tuple[str, str], int]


class Metrics:
    """Metrics of one server, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._runs = Counter("gems_runs", "Finished runs.", ["stop_reason"], registry=self.registry)
        self._rounds = Counter("gems_rounds", "Judged rounds.", registry=self.registry)
        self._images = Counter("gems_images", "Generated images.", registry=self.registry)
        self._seconds = Histogram(
            "gems_run_seconds", "Wall time of runs, rounds summed.", buckets=_SECONDS, registry=self.registry
        )
        self._tokens = Counter("gems_tokens", "Tokens of finished runs.", ["role", "direction"], registry=self.registry)
        self._errors = Counter("gems_errors", "Errors that stopped runs.", ["kind"], registry=self.registry)
        self._working = Gauge("gems_runs_going_on", "Runs in progress.", registry=self.registry)
        self._waiting = Gauge("gems_requests_waiting", "Requests that wait for a free place.", registry=self.registry)
        # Resumed runs report their earlier usage again.
        self._counted: OrderedDict[str, Tokens] = OrderedDict()

    def listen(self, manager: RunManager, queue: RunQueue) -> None:
        """Count the events of a run manager, and what waits in a queue."""
        self._waiting.set_function(lambda: sum(queue.lengths().values()))
        manager.listeners.append(self._take)
        self._working.set_function(lambda: len(manager.working()))

    def page(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        return generate_latest(self.registry)

    def _take(self, news: Event | BaseException) -> None:
        if isinstance(news, BaseException):
            # Class names of libraries would be unbounded label values.
            kind = type(news).__name__ if isinstance(news, GemsError) else "InternalError"
            self._errors.labels(kind).inc()
        elif isinstance(news, Finished):
            self._finish(news.result)
        elif news.type == "verdicts":
            self._rounds.inc()
        elif news.type == "image":
            self._images.inc()

    def _finish(self, result: RunResult) -> None:
        before = self._counted.pop(result.run_id, {})
        tokens = {
            (role, direction): used["input_tokens" if direction == "input" else "output_tokens"]
            for role, used in result.usage.items()
            for direction in ("input", "output")
        }
        self._counted[result.run_id] = tokens
        if len(self._counted) > _REMEMBERED:
            self._counted.popitem(last=False)
        if before == tokens:
            # The finished run was only returned again.
            return
        for labels, count in tokens.items():
            self._tokens.labels(*labels).inc(max(0, count - before.get(labels, 0)))
        self._runs.labels(result.stop_reason or result.status).inc()
        self._seconds.observe(result.seconds)
        if result.failure is not None:
            self._errors.labels(result.failure["error"]).inc()
