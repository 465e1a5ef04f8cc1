"""Checks of OpenTelemetry's collector and LangSmith for `gems doctor`."""

from __future__ import annotations

import os

import httpx

from gems.errors import ConfigurationError, RejectedRequestError, UnreachableError
from gems.observability.redaction import display_url
from gems.observability.tracing import check_installed
from gems.settings import Settings

_PATIENCE_S = 5.0
_SWITCHES = ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING_V2", "LANGCHAIN_TRACING")
_KEYS = ("LANGSMITH_API_KEY", "LANGCHAIN_API_KEY")
_ENDPOINTS = ("LANGSMITH_ENDPOINT", "LANGCHAIN_ENDPOINT")


async def collector(settings: Settings) -> str:
    """Send an empty trace to the collector, and describe it; raise GemsError if it does not accept traces."""
    check_installed(settings)
    if settings.otel == "console":
        return "to stderr"
    from gems.observability.opentelemetry import traces_url  # noqa: PLC0415 - only where it is installed

    where = display_url(settings.otel)
    headers = {"content-type": "application/x-protobuf"}
    try:
        async with httpx.AsyncClient(timeout=_PATIENCE_S) as client:
            answer = await client.post(traces_url(settings.otel), content=b"", headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnreachableError(
            f"Cannot reach {where}: {type(error).__name__}.",
            hint="Set GEMS_OTEL to the URL of a collector that accepts OTLP/HTTP, usually on port 4318.",
        ) from error
    # OpenTelemetry sends the headers, not this probe; a collector that requires a key is up as well.
    if answer.status_code in (401, 403):
        return f"{where} is reachable and requires a key (OTEL_EXPORTER_OTLP_HEADERS)"
    if not answer.is_success:
        raise RejectedRequestError(
            f"{where} answered {answer.status_code} and does not accept traces.",
            hint="Set GEMS_OTEL to a collector that accepts OTLP/HTTP, usually on port 4318.",
        )
    texts = "with prompts and answers" if settings.otel_text else "without prompts and answers"
    return f"{where} accepts traces, {texts}"


def langsmith_is_on() -> bool:
    """Return whether LangChain sends traces to LangSmith."""
    return any(os.environ.get(name, "").lower() == "true" for name in _SWITCHES)


async def langsmith() -> str:
    """List the LangSmith variables that are set, without values; raise ConfigurationError without a key."""
    names = sorted(name for name in os.environ if name.startswith(("LANGSMITH_", "LANGCHAIN_")))
    named = [name for name in names if os.environ[name]]
    if not any(name in named for name in (*_KEYS, *_ENDPOINTS)):
        raise ConfigurationError(
            "LangSmith tracing is enabled, but no key is set.",
            hint="Set LANGSMITH_API_KEY in the environment, or unset LANGSMITH_TRACING.",
        )
    return f"traces are sent with texts and without images; set variables: {', '.join(named)}"
