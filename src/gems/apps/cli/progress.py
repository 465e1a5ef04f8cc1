"""Progress counts on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

_STEPS = 10


def told(noun: str) -> Callable[[int, int], None]:
    """Return a callback that prints counts: every one on a terminal, else about ten."""

    def tell(done: int, total: int) -> None:
        from gems.apps.cli.text import counted  # noqa: PLC0415 - only needed here

        step = 1 if sys.stderr.isatty() else max(1, total // _STEPS)
        if done % step == 0 or done == total:
            typer.echo(f"{done:,} of {counted(total, noun)}", err=True)

    return tell
