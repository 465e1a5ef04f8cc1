"""`gems eval` and `gems batch`."""

from __future__ import annotations

import typer

from gems.apps.cli.eval_parts.compare import compare
from gems.apps.cli.eval_parts.data import data
from gems.apps.cli.eval_parts.moving import export, import_scores
from gems.apps.cli.eval_parts.score import score
from gems.apps.cli.eval_parts.table import table
from gems.apps.cli.evals import run

evals = typer.Typer(
    name="eval",
    rich_markup_mode=None,
    invoke_without_command=True,
)


@evals.callback()
def _evals(context: typer.Context) -> None:
    """Benchmarks: generate samples with a harness, score them, and compare harnesses."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


evals.command()(data)
evals.command()(run)
evals.command()(score)
evals.command()(export)
evals.command()(import_scores)
evals.command()(compare)
evals.command()(table)
