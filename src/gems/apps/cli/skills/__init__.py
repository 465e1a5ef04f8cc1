"""`gems skills`: expertise that runs can use."""

from __future__ import annotations

import typer

from gems.apps.cli.skills.learning import learn
from gems.apps.cli.skills.testing import try_out

skills = typer.Typer(
    name="skills",
    rich_markup_mode=None,
    invoke_without_command=True,
)


@skills.callback()
def _skills(context: typer.Context) -> None:
    """Expertise that runs can use."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


skills.command("test")(try_out)
skills.command()(learn)
