"""`gems eval` and `gems batch`."""

from __future__ import annotations

import typer

from gems.apps.cli.evals.compare import compare
from gems.apps.cli.evals.data import data
from gems.apps.cli.evals.moving import export, import_scores
from gems.apps.cli.evals.run import run
from gems.apps.cli.evals.score import score
from gems.apps.cli.evals.table import table

evals = typer.Typer(
    name="eval",
    rich_markup_mode=None,
    invoke_without_command=True,
)


@evals.callback()
def _evals(context: typer.Context) -> None:
    """Benchmarks: draw their samples by a harness, score them, and compare harnesses."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


evals.command()(data)
evals.command()(run)
evals.command()(score)
evals.command()(export)
evals.command()(import_scores)
evals.command()(compare)
evals.command()(table)
