"""Whether those who want to see inside can: OpenTelemetry's collector and LangSmith, as the doctor tells."""

from __future__ import annotations

import os

import httpx

from gems.errors import ConfigurationError, RejectedRequestError, UnreachableError
from gems.models.generators.addresses import shown_address
from gems.observability.tracing import check_installed
from gems.settings import Settings

_PATIENCE_S = 5.0
_SWITCHES = ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING_V2", "LANGCHAIN_TRACING")
_KEYS = ("LANGSMITH_API_KEY", "LANGCHAIN_API_KEY")
_ENDPOINTS = ("LANGSMITH_ENDPOINT", "LANGCHAIN_ENDPOINT")


async def collector(settings: Settings) -> str:
    """What there is to say about where traces go; they are tried with one that holds nothing.

    Raises:
        MissingExtraError: a package is missing.
        UnreachableError: nothing answers there.
        RejectedRequestError: what answers takes no traces.
    """
    check_installed(settings)
    if settings.otel == "console":
        return "to stderr"
    from gems.observability.opentelemetry import traces_url  # noqa: PLC0415 - only where it is installed

    where = shown_address(settings.otel)
    headers = {"content-type": "application/x-protobuf"}
    try:
        async with httpx.AsyncClient(timeout=_PATIENCE_S) as client:
            answer = await client.post(traces_url(settings.otel), content=b"", headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnreachableError(
            f"{where} could not be reached: {type(error).__name__}.",
            hint="Does a collector run there that takes OTLP/HTTP, usually at port 4318? See GEMS_OTEL.",
        ) from error
    # Headers for it are OpenTelemetry's business; without them a collector that wants a key is there as well.
    if answer.status_code in (401, 403):
        return f"{where} is there and wants a key (OTEL_EXPORTER_OTLP_HEADERS)"
    if not answer.is_success:
        raise RejectedRequestError(
            f"{where} answered {answer.status_code} and takes no traces.",
            hint="GEMS_OTEL is to name a collector that takes OTLP/HTTP, usually at port 4318.",
        )
    texts = "with prompts and answers" if settings.otel_text else "without prompts and answers"
    return f"{where} takes traces, {texts}"


def langsmith_is_on() -> bool:
    """Whether LangChain sends traces to LangSmith."""
    return any(os.environ.get(name, "").lower() == "true" for name in _SWITCHES)


async def langsmith() -> str:
    """Which of LangSmith's variables are set; what they hold is not shown.

    Raises:
        ConfigurationError: tracing is on, and there is no key for it.
    """
    names = sorted(name for name in os.environ if name.startswith(("LANGSMITH_", "LANGCHAIN_")))
    named = [name for name in names if os.environ[name]]
    if not any(name in named for name in (*_KEYS, *_ENDPOINTS)):
        raise ConfigurationError(
            "Traces are to be sent to LangSmith, and no key for it is set.",
            hint="Set LANGSMITH_API_KEY in the environment, or take LANGSMITH_TRACING away.",
        )
    return f"traces go there, with texts and without pictures; set are {', '.join(named)}"
