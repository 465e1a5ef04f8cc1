"""`gems skills trust`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import reported


def trust(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="A project, or a folder of skills.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the trust back.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="Only list what is trusted.")] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Trust a folder: the skills of a project in it are read, and the code of skills in it may run.

    Skills are instructions to a model, and graph.py is a program with all your rights: look at them first.
    What stands below the folder is trusted too. On standard output stands everything that is trusted.

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
    with reported(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy
        from gems.errors import OptionError  # noqa: PLC0415
        from gems.settings import load_settings  # noqa: PLC0415
        from gems.skills.reports import TrustedFolders  # noqa: PLC0415
        from gems.skills.trust import distrust, trust, trusted_folders  # noqa: PLC0415

        home = load_settings().trust_home
        if folder is None and not listing:
            raise OptionError("No folder is named.", hint="`gems skills trust .` trusts the current one.")
        if folder is not None and not listing:
            (distrust if remove else trust)(home, folder)
        folders = sorted(map(str, trusted_folders(home)))
        if json:
            print_json(TrustedFolders(folders=folders))
        else:
            typer.echo("\n".join(folders) or "Nothing is trusted.", err=not folders)
