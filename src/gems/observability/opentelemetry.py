"""OpenTelemetry spans, sent by OTLP/HTTP or to the console through a tracer provider of our own."""

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
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)

from gems._version import __version__
from gems.observability.redaction import display_url, redact
from gems.observability.tracing import Span, Tracing
from gems.types import NO_USAGE, Usage, add_usage

logger = logging.getLogger(__name__)

_SEND_TIMEOUT_S = 3.0
_CLOSE_TIMEOUT_S = 2.0
"""How long the end of a process waits for unsent spans."""
_EXPORT_INTERVAL_MS = 1_000
# OpenTelemetry's conventions for model calls; all other attributes are named after GEMS.
_ATTRIBUTES = {"model": "gen_ai.request.model", "operation": "gen_ai.operation.name"}
_OPERATIONS = {"chat": {"operation": "chat"}, "draw": {"operation": "generate_content"}}
# The current span of GEMS. OpenTelemetry's own may belong to a program around GEMS.
_CURRENT_SPAN: ContextVar[trace.Span | None] = ContextVar("gems_span", default=None)


class OtelSpan(Span):
    """A `Span` on an OpenTelemetry span; texts are stored only with `with_texts`."""

    def __init__(self, span: trace.Span, *, with_texts: bool) -> None:
        self._span, self._with_texts = span, with_texts
        self._usage: Usage = NO_USAGE

    def set_facts(self, **facts: Any) -> None:
        for name, value in facts.items():
            if value is not None:
                self._span.set_attribute(_ATTRIBUTES.get(name, f"gems.{name}"), value)

    def set_texts(self, **texts: str) -> None:
        if self._with_texts:
            for name, text in texts.items():
                self._span.set_attribute(f"gems.text.{name}", redact(text))

    def add_usage(self, usage: Usage) -> None:
        self._usage = total = add_usage(self._usage, usage)
        self._span.set_attribute("gen_ai.usage.input_tokens", total["input_tokens"])
        self._span.set_attribute("gen_ai.usage.output_tokens", total["output_tokens"])
        self.set_facts(
            calls=total["calls"],
            images_sent=total["images_sent"],
            seconds=round(total["seconds"], 3),
            usd=total["usd"],
            wasted_calls=total.get("wasted_calls") or None,
        )

    def record_error(self, error: BaseException | str) -> None:
        kind = error if isinstance(error, str) else type(error).__name__
        self._span.set_attribute("error.type", kind)
        self._span.set_status(trace.StatusCode.ERROR, kind)


class OtelTracing(Tracing):
    """A `Tracing` on an OpenTelemetry tracer; `parent` is the span of the traced run."""

    def __init__(self, tracer: trace.Tracer, *, texts: bool, parent: trace.Span | None = None) -> None:
        self._tracer, self._texts, self._parent = tracer, texts, parent

    @contextmanager
    def span(self, kind: str, name: str = "", **facts: Any) -> Iterator[Span]:
        title, parent = f"gems {kind} {name}".strip(), _CURRENT_SPAN.get() or self._parent
        with self._open(title, parent, **_OPERATIONS.get(kind, {}), **facts) as (span, otel_span):
            token = _CURRENT_SPAN.set(span)
            try:
                with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                    yield otel_span
            finally:
                _CURRENT_SPAN.reset(token)

    @contextmanager
    def run(self, run_id: str, **facts: Any) -> Iterator[tuple[Span, Tracing]]:
        # Not made the current span: a run is a generator, whose consumer has a context of its own.
        with self._open("gems run", _CURRENT_SPAN.get(), run_id=run_id, **facts) as (span, otel_span):
            yield otel_span, OtelTracing(self._tracer, texts=self._texts, parent=span)

    @contextmanager
    def _open(self, title: str, parent: trace.Span | None, /, **facts: Any) -> Iterator[tuple[trace.Span, OtelSpan]]:
        context = trace.set_span_in_context(parent) if parent is not None else None
        span = self._tracer.start_span(title, context)
        otel_span = OtelSpan(span, with_texts=self._texts)
        otel_span.set_facts(**facts)
        try:
            yield span, otel_span
        except (GraphBubbleUp, GeneratorExit):
            # A skill's question, or a consumer that stops iterating, is not an error.
            raise
        except BaseException as error:
            otel_span.record_error(error)
            raise
        finally:
            span.end()


@asynccontextmanager
async def open_otel(where: str, *, texts: bool) -> AsyncIterator[Tracing]:
    """Trace to the `console` or a collector's URL; at the end, unsent spans are sent for up to 2 seconds."""
    name = os.environ.get("OTEL_SERVICE_NAME") or "gems"
    resource = Resource.create({SERVICE_NAME: name, SERVICE_VERSION: __version__})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = None if where == "console" else WarnOnceExporter(where)
    # stdout is for results.
    console = SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr))
    sender = BatchSpanProcessor(exporter, schedule_delay_millis=_EXPORT_INTERVAL_MS) if exporter else console
    provider.add_span_processor(sender)
    try:
        yield OtelTracing(provider.get_tracer("gems", __version__), texts=texts)
    finally:
        closing = threading.Thread(target=provider.shutdown, name="gems-otel", daemon=True)
        closing.start()
        # Do not wait for a collector that failed before.
        has_failed = exporter is not None and exporter.failed
        await asyncio.to_thread(closing.join, 0.0 if has_failed else _CLOSE_TIMEOUT_S)


def traces_url(where: str) -> str:
    """Return a collector's URL for spans."""
    where = where.rstrip("/")
    return where if where.endswith("/v1/traces") else f"{where}/v1/traces"


class WarnOnceExporter(SpanExporter):
    """Exporter by OTLP/HTTP, set up by OpenTelemetry's own variables, that warns once if sending fails."""

    def __init__(self, where: str) -> None:
        from opentelemetry.exporter.otlp.proto.http import trace_exporter  # noqa: PLC0415 - not for the console

        self._where = display_url(where)
        self._exporter = trace_exporter.OTLPSpanExporter(endpoint=traces_url(where), timeout=_SEND_TIMEOUT_S)
        self._sending = threading.local()
        self._warned = False
        # Whether the newest batch could not be sent.
        self.failed = False
        self._logger = logging.getLogger(trace_exporter.__name__)
        self._logger.addFilter(self._is_not_ours)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._sending.now = True
        try:
            result = self._exporter.export(spans)
        finally:
            self._sending.now = False
        self.failed = result is not SpanExportResult.SUCCESS
        if self.failed and not self._warned:
            self._warned = True
            logger.warning("Traces cannot be sent to %s; runs continue without.", self._where)
        return result

    def shutdown(self) -> None:
        """Drop unsent spans."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]
        self._logger.removeFilter(self._is_not_ours)

    def _is_not_ours(self, _record: logging.LogRecord) -> bool:
        return not getattr(self._sending, "now", False)
