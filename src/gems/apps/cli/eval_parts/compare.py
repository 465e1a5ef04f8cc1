"""`gems eval compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import handle_errors


def compare(
    folders: Annotated[
        list[str],
        typer.Argument(
            metavar="DIR...", help="Output folders; those of one harness with different seeds are merged."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            parser=options.path,
            metavar="FOLDER",
            help="Write Markdown, CSV, plots and a page with the images side by side to this folder.",
        ),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only scores of this judge, named as in the tables.")
    ] = None,
    pictures: Annotated[
        int,
        typer.Option(metavar="N", min=0, max=200, help="Number of prompts shown on the page."),
    ] = 12,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Compare harnesses prompt by prompt.

    Reports means with bootstrap intervals, pairwise tests, results per category and per atomicity, and the
    cost of a sample: images, calls, tokens, seconds. Each judge, and the official scorer, has its own
    tables.

    \b
    Examples:
      gems eval compare out/single out/paper out/balanced
      gems eval compare out/*-seed? --out out/comparison

    \b
    Exit codes:
      0  compared
      2  bad usage, no output folder, or no scores
      1  failure
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.eval_commands import compare_folders  # noqa: PLC0415
        from gems.apps.cli.eval_parts.figures import show_section  # noqa: PLC0415 - heavy
        from gems.apps.cli.eval_parts.reports import comparison_report  # noqa: PLC0415
        from gems.apps.cli.output import print_json  # noqa: PLC0415

        found = compare_folders(folders, judge, out, pictures)
        for warning in found.warnings:
            typer.echo(f"warning: {warning}", err=True)
        if json:
            print_json(comparison_report(found))
            return
        for section in found.sections:
            show_section(section)
        for path in found.paths:
            typer.echo(path)
