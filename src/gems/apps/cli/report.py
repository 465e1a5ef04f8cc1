"""`gems report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import handle_errors

if TYPE_CHECKING:
    from gems.service import Gems


def report(
    run_id: options.RunId,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="HTML file; - for stdout. Default: RUN.html in the current folder.",
        ),
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Write a self-contained HTML report of a run.

    The page embeds all images and needs no network.

    \b
    Examples:
      gems report last -o report.html
      gems report 20260131-120000-4f2a9c

    \b
    Exit codes:
      0  written; the path is on standard output
      2  bad usage or configuration, or no such run
      1  failure
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy
        from gems.apps.cli.runner import resolve_run_id, run_query  # noqa: PLC0415
        from gems.apps.cli.schemas import ReportFile  # noqa: PLC0415
        from gems.runs.output import write_page  # noqa: PLC0415

        async def build_report(gems: Gems) -> tuple[str, str]:
            name = await resolve_run_id(gems, run_id)
            return name, await gems.report(name)

        name, page = run_query(build_report)
        if out == Path("-") and not json:
            typer.echo(page, nl=False)
            return
        path = write_page(page, Path(f"{name}.html") if out is None else out)
        if json:
            print_json(ReportFile(run_id=name, path=str(path), bytes=path.stat().st_size))
        else:
            typer.echo(path)
