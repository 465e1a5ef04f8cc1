"""Traces: a span for each run, node and call of a model, for whoever wants to see where time and money go.

Off by default, and then nothing is imported and nothing done. `gems.observability.opentelemetry` sends spans
to a collector.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from importlib.util import find_spec
from typing import Any

from gems.errors import MissingExtraError
from gems.settings import Settings
from gems.types import Usage


class Span:
    """What is told about a piece of work while it goes on; here, nobody listens."""

    def tell(self, **facts: Any) -> None:
        """Numbers, names and ids, never what users and models wrote."""

    def texts(self, **texts: str) -> None:
        """What users and models wrote, kept only where that is wanted."""

    def used(self, usage: Usage) -> None:
        """What a model's answer consumed; several are added up."""

    def failed(self, error: BaseException | str) -> None:
        """The work failed; an error counts by its class, since its words may hold anything."""


class Tracing:
    """Makes spans; here, none."""

    def span(self, kind: str, name: str = "", **facts: Any) -> AbstractContextManager[Span]:
        """A span for a piece of work within a coroutine.

        Args:
            kind: `node`, `chat` or `draw`.
            name: Which one.
            **facts: See `Span.tell`.
        """
        del kind, name, facts
        return _NOTHING

    def run(self, run_id: str, **facts: Any) -> AbstractContextManager[tuple[Span, Tracing]]:
        """A span for a run, and what makes the spans below it."""
        del run_id, facts
        return nullcontext((_NOBODY, self))


_NOBODY = Span()
_NOTHING: AbstractContextManager[Span] = nullcontext(_NOBODY)
OFF = Tracing()
"""Nothing is traced."""


@asynccontextmanager
async def open_tracing(settings: Settings) -> AsyncIterator[Tracing]:
    """What the settings say; what is still to be sent is sent at the end, but never waited for long.

    Raises:
        MissingExtraError: traces are wanted, and OpenTelemetry is not installed.
    """
    if not settings.otel:
        yield OFF
        return
    check_installed(settings)
    from gems.observability.opentelemetry import open_otel  # noqa: PLC0415 - only those who want traces need it

    async with open_otel(settings.otel, texts=settings.otel_text) as tracing:
        yield tracing


def check_installed(settings: Settings) -> None:
    """Rule out that a package is missing.

    Raises:
        MissingExtraError: one is.
    """
    try:
        found = find_spec("opentelemetry.sdk.trace") is not None
        if settings.otel != "console":
            found = found and find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise MissingExtraError("Sending traces by OpenTelemetry", "otel")
