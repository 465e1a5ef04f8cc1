"""Logs of servers: each line has its run, as text or as JSON."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

from pythonjsonlogger.json import JsonFormatter

from gems.observability.redaction import known_secrets, redact
from gems.settings import Settings

_RUN: ContextVar[tuple[str, int]] = ContextVar("gems_run", default=("", 0))


@contextmanager
def within_run(run_id: str, number: int = 0) -> Iterator[None]:
    """Mark log records in the block as belonging to a run, and to a round if there is one."""
    before = _RUN.get()
    _RUN.set((run_id, number))
    try:
        yield
    finally:
        # Not by a token: a run is a generator, which may be closed in another context than it started in.
        _RUN.set(before)


def current_run() -> str:
    """Return the run that the caller works for; empty outside of runs."""
    return _RUN.get()[0]


def configure_logging(settings: Settings, stream: TextIO | None = None, *, debug: bool = False) -> None:
    """Log GEMS from INFO (or DEBUG) and others from WARNING to `stream` or stderr; can be repeated."""
    handler = _Handler(stream or sys.stderr)
    secrets = known_secrets(settings)
    handler.setFormatter(JsonLines(secrets) if settings.log == "json" else TextLines(secrets))
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    logging.getLogger("gems").setLevel(logging.DEBUG if debug else logging.INFO)


class _Handler(logging.StreamHandler[TextIO]):
    """Marks the root logger's handler of GEMS, so that it can be replaced."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.addFilter(_add_run)


def _add_run(record: logging.LogRecord) -> bool:
    record.run_id, record.round = _RUN.get()
    return True


class JsonLines(JsonFormatter):
    """One JSON object per line; the given secrets are redacted, and others by their shape."""

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        super().__init__(json_ensure_ascii=False)
        self._secrets = secrets

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        log_data |= {
            "time": _format_time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage(), *self._secrets),
            "run_id": getattr(record, "run_id", "") or None,
            "round": getattr(record, "round", 0) or None,
        }
        if error := message_dict.get("exc_info"):
            log_data["error"] = redact(error, *self._secrets)


class TextLines(logging.Formatter):
    """One line per record, followed by the traceback if there is one, redacted."""

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        run, number = getattr(record, "run_id", ""), getattr(record, "round", 0)
        context = f" [{run}{f' round {number}' if number else ''}]" if run else ""
        # Texts of users and models must not start new lines.
        message = " ".join(record.getMessage().splitlines())
        line = f"{_format_time(record)} {record.levelname:7} {record.name}{context}: {message}"
        error = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return redact(line + error, *self._secrets)


def _format_time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
