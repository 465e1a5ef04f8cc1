"""Logs of ways in that live long: each line knows its run, as text or as JSON.

The command line shows what happens in its own way and does not use this.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

from gems.observability.redaction import redact
from gems.secrecy import known_secrets
from gems.settings import Settings

_RUN: ContextVar[tuple[str, int]] = ContextVar("gems_run", default=("", 0))


@contextmanager
def within_run(run_id: str, number: int = 0) -> Iterator[None]:
    """What is logged within belongs to a run, and to a round where there is one."""
    before = _RUN.get()
    _RUN.set((run_id, number))
    try:
        yield
    finally:
        # Not by a token: a run is a generator, which may be closed in another context than it began in.
        _RUN.set(before)


def current_run() -> str:
    """The run that the caller works for; empty outside of runs."""
    return _RUN.get()[0]


def configure_logging(settings: Settings, stream: TextIO | None = None, *, debug: bool = False) -> None:
    """Log to stderr as the settings say, for the whole process; calling it again changes how.

    Ours is told from INFO on, what others log from WARNING on.

    Args:
        settings: `log` says which form lines have.
        stream: In place of stderr.
        debug: Tell everything of ours.
    """
    handler = _Handler(stream or sys.stderr)
    secrets = known_secrets(settings)
    handler.setFormatter(JsonLines(secrets) if settings.log == "json" else TextLines(secrets))
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    logging.getLogger("gems").setLevel(logging.DEBUG if debug else logging.INFO)


class _Handler(logging.StreamHandler[TextIO]):
    """Ours among those of the root logger; what it cannot say costs nobody anything."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.addFilter(_with_run)


def _with_run(record: logging.LogRecord) -> bool:
    record.run_id, record.round = _RUN.get()
    return True


class _Discreet(logging.Formatter):
    """Without secrets.

    Args:
        secrets: Those that are known; others are told by their shapes.
    """

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._secrets = secrets

    def message(self, record: logging.LogRecord) -> str:
        """What the record says."""
        return redact(record.getMessage(), *self._secrets)

    def traceback(self, record: logging.LogRecord) -> str:
        """Its traceback; empty where there is none."""
        if record.exc_info is None or record.exc_info[0] is None:
            return ""
        return redact(self.formatException(record.exc_info), *self._secrets)


class JsonLines(_Discreet):
    """One JSON object per line, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.message(record),
            "run_id": getattr(record, "run_id", "") or None,
            "round": getattr(record, "round", 0) or None,
        }
        if error := self.traceback(record):
            line["error"] = error
        return json.dumps(line, ensure_ascii=False)


class TextLines(_Discreet):
    """One line per record, and the traceback where there is one, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        run, number = getattr(record, "run_id", ""), getattr(record, "round", 0)
        place = f" [{run}{f' round {number}' if number else ''}]" if run else ""
        # What users and models wrote begins no lines of its own.
        message = " ".join(self.message(record).splitlines())
        line = f"{_time(record)} {record.levelname:7} {record.name}{place}: {message}"
        error = self.traceback(record)
        return f"{line}\n{error}" if error else line


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
