"""Tables of scores, comparisons and exports on standard output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from gems.apps.cli.errors import clean
from gems.apps.cli.text import one_line, pluralize
from gems.evals.comparison.sections import Section
from gems.evals.comparison.table import NONE, Table, format_coverage
from gems.evals.official import EvalExport
from gems.evals.records import Figure
from gems.evals.scoring import ScoreReport, Unscored

_LISTED = 10
_WIDE = 400
"""Width for files and pipes, so that lines are not wrapped."""


def show_figures(figures: Sequence[Figure]) -> None:
    """Print a row per figure: name, language, value, samples and judge."""
    rows = [
        [
            figure.name,
            figure.language,
            NONE if figure.value is None else f"{figure.value:.4g}",
            format_coverage(figure.scored, figure.expected),
            figure.judge,
        ]
        for figure in figures
    ]
    show_table(Table(title="", columns=["figure", "language", "value", "samples", "judge"], rows=rows))


def show_scores(report: ScoreReport) -> None:
    """Print figures to standard output, and samples without a score to standard error."""
    show_figures(report.figures)
    typer.echo(
        clean(
            f"{pluralize(report.scored, 'prompt')} scored by {report.judge}, "
            f"{pluralize(report.kept, 'prompt')} scored earlier."
        )
    )
    _print_unscored(report.missing, "without an image")
    _print_unscored(report.unscored, "without a score, not counted as 0")


def show_export(found: EvalExport) -> None:
    """Print the folder, the commands to run, and the missing samples."""
    typer.echo(clean(found.path))
    for command in found.commands:
        typer.echo(clean(f"  {command}"))
    _print_unscored(found.missing, "without an image")
    if found.is_partial:
        typer.echo(
            f"partial: {format_coverage(found.samples, found.expected).removesuffix(', partial')} samples. "
            "The official scorer's result for them is not the benchmark's score.",
            err=True,
        )


def _print_unscored(samples: Sequence[Unscored], what: str) -> None:
    if not samples:
        return
    typer.echo(f"{pluralize(len(samples), 'sample')} {what}:", err=True)
    for each in samples[:_LISTED]:
        typer.echo(
            f"  {each.language}/{each.prompt_id} sample {each.sample}: {one_line(each.why, 160)}", err=True
        )
    if len(samples) > _LISTED:
        typer.echo(f"  and {len(samples) - _LISTED:,} more", err=True)


def show_section(section: Section) -> None:
    """Print the notes and tables of a section."""
    console = _wide_console()
    title = f"{section.title} ({section.language}), scored by {section.judge}"
    console.print(Text(clean(title), style="bold"))
    for note in section.notes:
        console.print(Text(f"- {one_line(note)}"), soft_wrap=not console.is_terminal)
    for table in section.tables:
        show_table(table)


def show_table(table: Table) -> None:
    """Print a table and its notes."""
    console = _wide_console()
    if table.title:
        console.print(Text(f"\n{one_line(table.title)}", style="bold"), soft_wrap=not console.is_terminal)
    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(table.columns):
        justify: Literal["left", "right"] = "left" if index < table.names else "right"
        shown.add_column(Text(clean(name)), justify=justify, overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(one_line(cell)) for cell in row))
    console.print(shown)
    for note in table.notes:
        console.print(Text(one_line(note), style="dim"), soft_wrap=not console.is_terminal)


def _wide_console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDE)
