"""`gems skills trust`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import handle_errors


def trust(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Project folder, or folder of skills.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Revoke trust in the folder.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="Only list trusted folders.")] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Trust a folder: load the skills of projects in it and allow their code to run.

    Skills are instructions to a model, and graph.py runs with all your permissions: review them first.
    Subfolders are trusted too. Prints all trusted folders.

    \b
    Examples:
      gems skills trust .
      gems skills trust ~/.agents/skills
      gems skills trust --list

    \b
    Exit codes:
      0  done
      2  bad usage or configuration
      1  failure
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy
        from gems.errors import OptionError  # noqa: PLC0415
        from gems.settings import load_settings  # noqa: PLC0415
        from gems.skills.reports import TrustedFolders  # noqa: PLC0415
        from gems.skills.trust import distrust, trust, trusted_folders  # noqa: PLC0415

        home = load_settings().trust_home
        if folder is None and not listing:
            raise OptionError("No folder given.", hint="Run `gems skills trust .` for the current folder.")
        if folder is not None and not listing:
            (distrust if remove else trust)(home, folder)
        folders = sorted(map(str, trusted_folders(home)))
        if json:
            print_json(TrustedFolders(folders=folders))
        else:
            typer.echo("\n".join(folders) or "No folders are trusted.", err=not folders)
