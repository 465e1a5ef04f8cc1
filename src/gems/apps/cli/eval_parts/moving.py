"""`gems eval export` and `gems eval import-scores`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import handle_errors
from gems.apps.cli.eval_parts.score import Data, Folder


def export(
    folder: Folder,
    official: Annotated[
        Path,
        typer.Option(
            parser=options.path, metavar="OUT", help="New folder for the official scorer's input files."
        ),
    ],
    data: Data = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Export a folder's samples in the format of the official scorer.

    Prints the commands that run the scorer. Samples without an image are listed; a score without them is
    partial and not the benchmark's.

    \b
    Examples:
      gems eval export out/geneval2 --official out/geneval2-official

    \b
    Exit codes:
      0  written, and the benchmark is complete
      3  written, but samples are missing
      2  bad usage or configuration, no output folder, or no official scorer
      1  failure
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.errors import BEST_EFFORT, MET  # noqa: PLC0415
        from gems.apps.cli.eval_commands import export_samples  # noqa: PLC0415
        from gems.apps.cli.eval_parts.figures import show_export  # noqa: PLC0415 - heavy
        from gems.apps.cli.output import print_json  # noqa: PLC0415

        found = export_samples(folder, official, data)
        if json:
            print_json(found)
        else:
            show_export(found)
        raise typer.Exit(BEST_EFFORT if found.is_partial else MET)


def import_scores(
    folder: Folder,
    file: Annotated[
        Path, typer.Argument(parser=options.path, metavar="FILE", help="Output file of the official scorer.")
    ],
    language: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="en or zh; required if the folder has both."),
    ] = None,
    data: Data = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Import the scores that the official scorer wrote.

    \b
    Examples:
      gems eval import-scores out/geneval2 out/geneval2-scores.json

    \b
    Exit codes:
      0  imported
      2  bad usage, no output folder, or not a file of the official scorer
      1  failure
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.eval_commands import import_official_scores  # noqa: PLC0415
        from gems.apps.cli.eval_parts.figures import show_figures  # noqa: PLC0415 - heavy
        from gems.apps.cli.output import print_json  # noqa: PLC0415

        found = import_official_scores(folder, file, language, data)
        if json:
            print_json(found)
        else:
            show_figures(found.figures)
