"""`gems eval table`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import handle_errors


def table(
    folders: Annotated[
        list[str] | None, typer.Argument(metavar="[DIR...]", help="Output folders of any benchmark.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", parser=options.path, metavar="FILE", help="Write Markdown to this file."),
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Print the paper's Tables 1 and 2 with your own results.

    Only official scores (`gems eval import-scores`) are shown next to the paper's; in-house scores follow in
    separate tables. Cells without a run are empty.

    \b
    Examples:
      gems eval table
      gems eval table out/geneval2 out/wise --out tables.md

    \b
    Exit codes:
      0  printed
      2  bad usage, or no output folder
      1  failure
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.eval_commands import build_tables  # noqa: PLC0415
        from gems.apps.cli.eval_parts.figures import show_table  # noqa: PLC0415 - heavy
        from gems.apps.cli.eval_parts.reports import tables_report  # noqa: PLC0415
        from gems.apps.cli.output import print_json  # noqa: PLC0415

        found = build_tables(folders or [], out)
        if json:
            print_json(tables_report(found))
            return
        for each in found:
            show_table(each)
        if out is not None:
            typer.echo(out)
