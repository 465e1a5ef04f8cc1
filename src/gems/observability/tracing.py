"""Tracing protocol: spans of runs, nodes and model calls. Off by default; then nothing is imported."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any

from gems.errors import MissingExtraError
from gems.settings import Settings
from gems.types import Usage


class Span:
    """Records facts about a piece of work in progress; this base class records nothing."""

    def set_facts(self, **facts: Any) -> None:
        """Record numbers, names and ids, never texts of users and models."""

    def set_texts(self, **texts: str) -> None:
        """Record texts of users and models, stored only if configured."""

    def add_usage(self, usage: Usage) -> None:
        """Record the usage of a model's answer; several are summed."""

    def record_error(self, error: BaseException | str) -> None:
        """Record a failure, by the error's class only, since its message may contain anything."""


class Tracing:
    """Creates spans; this base class creates none."""

    def span(self, kind: str, name: str = "", **facts: Any) -> AbstractContextManager[Span]:
        """Open a span for a piece of work in a coroutine; `kind` is `node`, `chat` or `draw`."""
        del kind, name, facts
        return _NO_SPAN_CONTEXT

    def run(self, run_id: str, **facts: Any) -> AbstractContextManager[tuple[Span, Tracing]]:
        """Open a span for a run; also return the factory of spans below it."""
        del run_id, facts
        return nullcontext((_NO_SPAN, self))


_NO_SPAN = Span()
_NO_SPAN_CONTEXT: AbstractContextManager[Span] = nullcontext(_NO_SPAN)
OFF = Tracing()
"""No tracing."""


def check_installed(settings: Settings) -> None:
    """Raise MissingExtraError if a package for the configured tracing is missing."""
    exporter = () if settings.otel == "console" else ("opentelemetry.exporter.otlp.proto.http",)
    try:
        found = all(find_spec(name) for name in ("opentelemetry.sdk.trace", *exporter))
    except ModuleNotFoundError:
        found = False
    if not found:
        raise MissingExtraError("Sending traces by OpenTelemetry", "otel")
