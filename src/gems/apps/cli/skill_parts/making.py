"""`gems skills new`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import handle_errors


def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Lower-case letters, digits and single hyphens.")
    ],
    folder: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="Parent folder. Default: GEMS_HOME/skills."),
    ] = None,
    with_graph: Annotated[
        bool, typer.Option("--with-graph", help="Add a graph.py with a subgraph and a verifier.")
    ] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Create a working skeleton of a skill, and print its folder.

    \b
    Examples:
      gems skills new night-scenes
      gems skills new product-shots --with-graph --dir .agents/skills

    \b
    Exit codes:
      0  created
      2  bad usage or configuration, or the folder exists already
      1  failure
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy
        from gems.settings import load_settings  # noqa: PLC0415
        from gems.skills.reports import NewSkill  # noqa: PLC0415
        from gems.skills.scaffold import create_skill  # noqa: PLC0415

        parent = folder if folder is not None else load_settings().home / "skills"
        made = create_skill(name, parent, with_graph=with_graph)
        files = sorted(path.name for path in made.iterdir())
        if json:
            print_json(NewSkill(folder=str(made), files=files))
            return
        typer.echo(
            f"Wrote {', '.join(files)}. Edit SKILL.md, then run: gems skills validate {made}",
            err=True,
        )
        typer.echo(made)
