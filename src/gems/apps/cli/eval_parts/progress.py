"""Progress bar of a benchmark or a batch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from gems.apps.cli.options import View
from gems.apps.cli.text import format_usd
from gems.evals.runner import JobProgress, OnProgress


@contextmanager
def show_progress(noun: str, view: View) -> Iterator[OnProgress]:
    """Show a progress bar with rate, cost and time left if standard error is a terminal.

    `noun` names the units, e.g. `samples`.
    """
    console = Console(stderr=True, highlight=False)
    if view.quiet or view.json or view.debug or not sys.stderr.isatty() or not console.is_terminal:
        yield lambda _tally: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(noun, total=None, told="")

        def update(tally: JobProgress) -> None:
            bar.update(task, total=tally.total, completed=tally.done, told=format_progress(tally))

        yield update


def format_progress(tally: JobProgress) -> str:
    """Format rate, images per sample, cost and time left."""
    parts = [f"{tally.images_per_sample:.2f} images each"]
    if tally.usd:
        parts.append(format_usd(tally.usd))
    if tally.failed:
        parts.append(f"{len(tally.failed)} failed")
    if tally.done > tally.done_before:
        left = timedelta(seconds=round((tally.total - tally.done) / tally.rate))
        parts += [f"{tally.rate:.3g}/s", f"{left} left"]
    return ", ".join(parts)
