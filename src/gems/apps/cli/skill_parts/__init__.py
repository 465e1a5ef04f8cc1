"""`gems skills`."""

from __future__ import annotations

import typer

from gems.apps.cli.skill_parts.learning import learn
from gems.apps.cli.skill_parts.making import new
from gems.apps.cli.skill_parts.testing import try_out
from gems.apps.cli.skill_parts.trusting import trust
from gems.apps.cli.skill_parts.validating import validate
from gems.apps.cli.skills import list_, show

skills = typer.Typer(
    name="skills",
    rich_markup_mode=None,
    invoke_without_command=True,
)


@skills.callback()
def _skills(context: typer.Context) -> None:
    """Skills: folders of instructions that the planner selects for a prompt."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


skills.command("list")(list_)
skills.command()(show)
skills.command()(new)
skills.command()(validate)
skills.command()(trust)
skills.command("test")(try_out)
skills.command()(learn)
