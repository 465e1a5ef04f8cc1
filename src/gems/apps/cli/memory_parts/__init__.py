"""`gems memory`."""

from __future__ import annotations

import typer

from gems.apps.cli.memory import list_, search, show, stats
from gems.apps.cli.memory_parts.forgetting import forget, rebuild
from gems.apps.cli.memory_parts.moving import export, import_
from gems.apps.cli.memory_parts.tidying import consolidate, reindex

memory = typer.Typer(
    name="memory",
    rich_markup_mode=None,
    invoke_without_command=True,
)


@memory.callback()
def _memory(context: typer.Context) -> None:
    """Lessons and experiences that runs share."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


memory.command("list")(list_)
memory.command()(search)
memory.command()(show)
memory.command()(stats)
memory.command()(consolidate)
memory.command()(forget)
memory.command()(export)
memory.command("import")(import_)
memory.command()(reindex)
memory.command()(rebuild)
