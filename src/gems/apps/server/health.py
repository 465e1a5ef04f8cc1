"""What the server's runs do, counted for Prometheus. No label tells of a prompt or a user."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gems.apps.run_manager import RunHub
from gems.errors import GemsError
from gems.events import Event, Finished
from gems.results import RunResult

_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
_REMEMBERED = 1000
Tokens = Mapping[tuple[str, str], int]


class Metrics:
    """The figures of one server. They begin with the process; each has a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._runs = Counter(
            "gems_runs", "Runs that came to their end.", ["stop_reason"], registry=self.registry
        )
        self._rounds = Counter("gems_rounds", "Rounds that were judged.", registry=self.registry)
        self._images = Counter("gems_images", "Images that were drawn.", registry=self.registry)
        self._seconds = Histogram(
            "gems_run_seconds", "Wall time of runs, rounds summed.", buckets=_SECONDS, registry=self.registry
        )
        self._tokens = Counter(
            "gems_tokens", "Tokens of finished runs.", ["role", "direction"], registry=self.registry
        )
        self._errors = Counter(
            "gems_errors", "What ended runs, or left them without an end.", ["kind"], registry=self.registry
        )
        self._working = Gauge("gems_runs_going_on", "Runs that are being worked on.", registry=self.registry)
        # Runs that are resumed tell everything again that they consumed before.
        self._counted: OrderedDict[str, Tokens] = OrderedDict()

    def listen(self, hub: RunHub) -> None:
        """Count what a hub does."""
        hub.listeners.append(self._take)
        self._working.set_function(lambda: len(hub.working()))

    def page(self) -> bytes:
        """Everything in Prometheus' own form."""
        return generate_latest(self.registry)

    def _take(self, news: Event | BaseException) -> None:
        if isinstance(news, BaseException):
            # Names of other classes are the libraries' own, and there is no end of them.
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
        self._remember(result.run_id, tokens)
        if before == tokens:
            # Handed back as it was.
            return
        for labels, count in tokens.items():
            self._tokens.labels(*labels).inc(max(0, count - before.get(labels, 0)))
        self._runs.labels(result.stop_reason or result.status).inc()
        self._seconds.observe(result.seconds)
        if result.failure is not None:
            self._errors.labels(result.failure["error"]).inc()

    def _remember(self, run_id: str, tokens: Tokens) -> None:
        self._counted[run_id] = tokens
        if len(self._counted) > _REMEMBERED:
            self._counted.popitem(last=False)
