"""The command line as a process of its own, and in this process."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from typer.testing import CliRunner, Result

from gems.apps.cli.app import app
from tests.support.fork_server import forked
from tests.support.log_state import logging_as_before

PROMPT = "two green stars"
HOPELESS = "a dozen red circles"
"""Understood by the built-in world, which draws no more than nine of a kind."""
_TIMEOUT_S = 300


def started(*arguments: str, stdin: int = subprocess.DEVNULL, **environment: str) -> subprocess.Popen[str]:
    """`gems` with these arguments, its output in pipes."""
    with _heeding_interrupts():
        return subprocess.Popen(
            [*forked(), *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env=os.environ | {"TERM": "xterm-256color"} | environment,
        )


@contextmanager
def _heeding_interrupts() -> Iterator[None]:
    """Tests in the background of a shell ignore Ctrl-C, and so would everything that they start."""
    kept = signal.getsignal(signal.SIGINT)
    if kept is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    if kept is signal.SIG_IGN:
        signal.signal(signal.SIGINT, kept)


def gems(*arguments: str, given: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """`gems` with these arguments, carried out to its end."""
    with started(*arguments, stdin=subprocess.PIPE, **environment) as process:
        try:
            out, err = process.communicate(given, timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def here(*arguments: str, **more: Any) -> Result:
    """The same within this process, which spares loading everything; usage errors are not told."""
    # A server's logs would go to this run's output, which is closed afterwards.
    with logging_as_before():
        return CliRunner().invoke(app, list(arguments), prog_name="gems", **more)


def wait_until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until something holds, for as long as the process lives, and no longer than the timeout."""
    deadline = time.monotonic() + _TIMEOUT_S
    while not true():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
