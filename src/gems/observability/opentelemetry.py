"""Spans by OpenTelemetry, to a collector by OTLP/HTTP or to the console.

The provider is our own: a program around GEMS keeps its own, and its current span is the parent of ours.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

from langgraph.errors import GraphBubbleUp
from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)

from gems._version import __version__
from gems.models.generators.addresses import shown_address
from gems.models.usage import NOTHING, added
from gems.observability.redaction import redact
from gems.observability.tracing import Span, Tracing
from gems.types import Usage

logger = logging.getLogger(__name__)

_SEND_S = 3.0
_CLOSE_S = 2.0
"""How long the end of a process waits for what is still to be sent."""
_OFTEN_MS = 1_000
# The conventions of OpenTelemetry for calls of models; everything else is named after GEMS.
_NAMES = {"model": "gen_ai.request.model", "operation": "gen_ai.operation.name"}
_OPERATIONS = {"chat": {"operation": "chat"}, "draw": {"operation": "generate_content"}}
# The span that a coroutine works within. OpenTelemetry's own may be that of a program around us.
_WITHIN: ContextVar[trace.Span | None] = ContextVar("gems_span", default=None)


class OtelSpan(Span):
    """See `Span`.

    Args:
        span: OpenTelemetry's.
        with_texts: Whether texts are kept.
    """

    def __init__(self, span: trace.Span, *, with_texts: bool) -> None:
        self._span, self._with_texts = span, with_texts
        self._usage: Usage = NOTHING

    def tell(self, **facts: Any) -> None:
        """See `Span.tell`."""
        for name, value in facts.items():
            if value is not None:
                self._span.set_attribute(_NAMES.get(name, f"gems.{name}"), value)

    def texts(self, **texts: str) -> None:
        """See `Span.texts`."""
        if self._with_texts:
            for name, text in texts.items():
                self._span.set_attribute(f"gems.text.{name}", redact(text))

    def used(self, usage: Usage) -> None:
        """See `Span.used`."""
        self._usage = total = added(self._usage, usage)
        self._span.set_attribute("gen_ai.usage.input_tokens", total["input_tokens"])
        self._span.set_attribute("gen_ai.usage.output_tokens", total["output_tokens"])
        self.tell(
            calls=total["calls"],
            images_sent=total["images_sent"],
            seconds=round(total["seconds"], 3),
            usd=total["usd"],
        )

    def failed(self, error: BaseException | str) -> None:
        """See `Span.failed`."""
        kind = error if isinstance(error, str) else type(error).__name__
        self._span.set_attribute("error.type", kind)
        self._span.set_status(trace.StatusCode.ERROR, kind)


class OtelTracing(Tracing):
    """See `Tracing`.

    Args:
        tracer: OpenTelemetry's.
        texts: Whether texts are kept.
        parent: The span of the run that is traced.
    """

    def __init__(self, tracer: trace.Tracer, *, texts: bool, parent: trace.Span | None = None) -> None:
        self._tracer, self._texts, self._parent = tracer, texts, parent

    @contextmanager
    def span(self, kind: str, name: str = "", **facts: Any) -> Iterator[Span]:
        """See `Tracing.span`."""
        above = _WITHIN.get() or self._parent
        parent = trace.set_span_in_context(above) if above is not None else None
        span = self._tracer.start_span(f"gems {kind} {name}".strip(), parent)
        told = self._told(span, **_OPERATIONS.get(kind, {}), **facts)
        token = _WITHIN.set(span)
        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                yield told
        except BaseException as error:
            _failed(told, error)
            raise
        finally:
            _WITHIN.reset(token)
            span.end()

    @contextmanager
    def run(self, run_id: str, **facts: Any) -> Iterator[tuple[Span, Tracing]]:
        """See `Tracing.run`."""
        # Not made the current one: a run is a generator, whose listener has a context of its own.
        above = _WITHIN.get()
        parent = trace.set_span_in_context(above) if above is not None else None
        span = self._tracer.start_span("gems run", parent)
        told = self._told(span, run_id=run_id, **facts)
        try:
            yield told, OtelTracing(self._tracer, texts=self._texts, parent=span)
        except BaseException as error:
            _failed(told, error)
            raise
        finally:
            span.end()

    def _told(self, span: trace.Span, **facts: Any) -> OtelSpan:
        told = OtelSpan(span, with_texts=self._texts)
        told.tell(**facts)
        return told


def _failed(told: Span, error: BaseException) -> None:
    # The question of a skill, or a listener that has heard enough, is no fault.
    if not isinstance(error, GraphBubbleUp | GeneratorExit):
        told.failed(error)


@asynccontextmanager
async def open_otel(where: str, *, texts: bool) -> AsyncIterator[Tracing]:
    """Tracing to the console or a collector, until everything is sent or cannot be.

    Args:
        where: `console`, or the address of a collector.
        texts: Whether prompts and answers are kept.
    """
    name = os.environ.get("OTEL_SERVICE_NAME") or "gems"
    resource = Resource.create({SERVICE_NAME: name, SERVICE_VERSION: __version__})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = None if where == "console" else Patient(where)
    provider.add_span_processor(_processor(exporter))
    try:
        yield OtelTracing(provider.get_tracer("gems", __version__), texts=texts)
    finally:
        closing = threading.Thread(target=provider.shutdown, name="gems-otel", daemon=True)
        closing.start()
        # Whoever did not take spans before is not waited for.
        await asyncio.to_thread(closing.join, 0.0 if exporter is not None and exporter.failed else _CLOSE_S)


def _processor(exporter: Patient | None) -> SpanProcessor:
    if exporter is None:
        # Results are on stdout.
        return SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr))
    return BatchSpanProcessor(exporter, schedule_delay_millis=_OFTEN_MS)


def traces_url(where: str) -> str:
    """Where a collector at this address takes spans."""
    where = where.rstrip("/")
    return where if where.endswith("/v1/traces") else f"{where}/v1/traces"


class Patient(SpanExporter):
    """Sends spans by OTLP/HTTP; says once where that does not work, instead of with every batch.

    Headers, certificates and compression are taken from OpenTelemetry's own environment variables.

    Args:
        where: The collector's address.

    Attributes:
        failed: Whether the newest batch could not be sent.
    """

    def __init__(self, where: str) -> None:
        from opentelemetry.exporter.otlp.proto.http import trace_exporter  # noqa: PLC0415 - not for the console

        self._where = shown_address(where)
        self._exporter = trace_exporter.OTLPSpanExporter(endpoint=traces_url(where), timeout=_SEND_S)
        self._sending = threading.local()
        self._told = False
        self.failed = False
        self._logger = logging.getLogger(trace_exporter.__name__)
        self._logger.addFilter(self._is_anothers)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch, on the thread of the processor."""
        self._sending.now = True
        try:
            result = self._exporter.export(spans)
        finally:
            self._sending.now = False
        self.failed = result is not SpanExportResult.SUCCESS
        if self.failed and not self._told:
            self._told = True
            logger.warning("Traces cannot be sent to %s; runs go on without.", self._where)
        return result

    def shutdown(self) -> None:
        """Give up what is still to be sent."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]
        self._logger.removeFilter(self._is_anothers)

    def _is_anothers(self, _record: logging.LogRecord) -> bool:
        return not getattr(self._sending, "now", False)
