"""`gems skills validate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import FAILED, handle_errors


def validate(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Skill folders, or names from `gems skills list`."),
    ],
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Check skills against the Agent Skills standard.

    Reports all problems of a skill at once, and runs none of its code. Advice does not make a skill invalid.

    \b
    Examples:
      gems skills validate my-skill
      gems skills validate .agents/skills/*

    \b
    Exit codes:
      0  all skills are valid
      1  a skill is invalid
      2  bad usage
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.errors import clean  # noqa: PLC0415
        from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy
        from gems.skills.reports import ValidationList, validation_entry  # noqa: PLC0415
        from gems.skills.validator import validate as checked  # noqa: PLC0415

        found = [validation_entry(checked(_skill_folder(folder))) for folder in folders]
        if json:
            print_json(ValidationList(skills=found))
        else:
            for item in found:
                typer.echo(f"{item.folder}: {'valid' if item.valid else 'invalid'}")
                for finding in item.findings:
                    typer.echo(clean(f"  {finding}"))
        raise typer.Exit(0 if all(item.valid for item in found) else FAILED)


def _skill_folder(named: Path) -> Path:
    """Return the folder, or that of the skill of this name if it does not exist."""
    if named.exists() or len(named.parts) != 1:
        return named
    from gems.apps.cli.skills import scan_skills  # noqa: PLC0415 - heavy

    skill = scan_skills()[0].current.get(named.name)
    return named if skill is None or skill.folder is None else skill.folder
