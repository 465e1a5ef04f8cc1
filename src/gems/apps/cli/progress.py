"""Progress counts on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

_STEPS = 10


def print_progress(noun: str) -> Callable[[int, int], None]:
    """Return a callback that prints counts: every one on a terminal, else about ten."""

    def print_count(done: int, total: int) -> None:
        from gems.apps.cli.text import pluralize  # noqa: PLC0415 - only needed here

        step = 1 if sys.stderr.isatty() else max(1, total // _STEPS)
        if done % step == 0 or done == total:
            typer.echo(f"{done:,} of {pluralize(total, noun)}", err=True)

    return print_count
