"""`gems gc`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import FAILED, handle_errors

if TYPE_CHECKING:
    from gems.runs.cleanup import Garbage


def gc(
    min_age: Annotated[
        str, typer.Option(metavar="AGE", help="Keep everything younger than this; at least 1h.")
    ] = "1h",
    unlisted: Annotated[
        bool,
        typer.Option("--unlisted", help="Also delete unlisted runs: those of Studio and your own programs."),
    ] = False,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Delete images that no run uses, and files left by killed processes.

    Reports what would be deleted and asks first. Runs in progress are not touched.

    \b
    Examples:
      gems gc
      gems gc --dry-run --json
      gems gc --unlisted --min-age 2w --yes

    \b
    Exit codes:
      0    deleted, or nothing to delete
      2    bad usage or configuration
      1    not confirmed, or failure
      130  interrupted
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import confirm, print_json  # noqa: PLC0415 - heavy
        from gems.apps.cli.runner import run_query  # noqa: PLC0415
        from gems.options import parse_duration  # noqa: PLC0415

        age = parse_duration(min_age)
        found = run_query(lambda gems: gems.gc(dry_run=True, min_age=age, unlisted=unlisted))
        if not json:
            _print_garbage(found, unlisted=unlisted)
        empty = found.nothing and not (unlisted and found.unlisted_runs)
        if not dry_run and not empty:
            if not confirm("Delete them?", yes=yes, as_json=json):
                raise typer.Exit(FAILED)
            found = run_query(lambda gems: gems.gc(min_age=age, unlisted=unlisted))
            if not json:
                typer.echo("deleted")
        if json:
            print_json(found)


def _print_garbage(found: Garbage, *, unlisted: bool) -> None:
    from rich.filesize import decimal  # noqa: PLC0415 - only needed here

    from gems.apps.cli.text import pluralize  # noqa: PLC0415

    lines = [
        f"{pluralize(found.images, 'image')} ({decimal(found.image_bytes)}) that no run uses",
        f"{pluralize(found.leftovers, 'unfinished file')} ({decimal(found.leftover_bytes)})",
        pluralize(found.locks, "old lock file"),
    ]
    if found.unlisted_runs:
        runs = f"{pluralize(found.unlisted_runs, 'run')} with {pluralize(found.unlisted_rows, 'row')}"
        more = "" if unlisted else "; --unlisted deletes them too"
        lines.append(f"{runs} that `gems runs` does not list{more}")
    typer.echo("\n".join(lines), err=True)
