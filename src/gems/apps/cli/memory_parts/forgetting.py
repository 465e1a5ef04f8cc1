"""`gems memory forget` and `rebuild`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import FAILED, handle_errors

if TYPE_CHECKING:
    from gems.runs.memory_admin import Forgotten, Rebuilt
    from gems.service import Gems


def forget(
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Only those of this run.")] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Only those older than this, e.g. 12h, 30d, 8w.")
    ] = None,
    matching: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Only those with TEXT in prompt or text, ignoring case."),
    ] = None,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Delete experiences, and every lesson derived from one of them.

    Conditions are combined with AND. The runs themselves stay; `gems delete` deletes those.

    \b
    Examples:
      gems memory forget --run 20260131-120000-4f2a9c
      gems memory forget --older-than 30d --matching cat --yes

    \b
    Exit codes:
      0  deleted, or --dry-run
      2  bad usage or configuration
      1  not confirmed, or failure
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import confirm, print_json  # noqa: PLC0415 - heavy
        from gems.apps.cli.runner import run_query  # noqa: PLC0415
        from gems.apps.cli.text import pluralize  # noqa: PLC0415
        from gems.options import parse_duration  # noqa: PLC0415

        before = None if older_than is None else datetime.now(UTC) - parse_duration(older_than)

        async def forget_matching(gems: Gems, *, dry: bool) -> Forgotten:
            return await gems.memory.forget(run=run, older_than=before, matching=matching, dry_run=dry)

        found = run_query(lambda gems: forget_matching(gems, dry=True))
        if not json:
            counts = f"{pluralize(found.experiences, 'experience')}, {pluralize(found.lessons, 'lesson')}"
            waiting = f"; {found.pending} waiting to be written" if found.pending else ""
            typer.echo(f"{counts} to delete{waiting}", err=True)
        if not dry_run and found.experiences + found.lessons + found.pending:
            if not confirm("Delete them?", yes=yes, as_json=json):
                raise typer.Exit(FAILED)
            found = run_query(lambda gems: forget_matching(gems, dry=False))
            if not json:
                typer.echo("deleted")
        if json:
            print_json(found)


def rebuild(
    yes: options.Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only report what the runs contain.")] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Rebuild a damaged or lost experience store from all runs.

    The old folder is renamed; on a Chroma server the collections of GEMS are deleted. Track records are
    restored, and so are deleted experiences of existing runs. Run `gems memory consolidate` afterwards to
    derive lessons again, and repeat any imports.

    \b
    Examples:
      gems memory rebuild
      gems memory rebuild --dry-run --json

    \b
    Exit codes:
      0  rebuilt, or --dry-run
      2  bad usage or configuration
      1  not confirmed, or failure
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import confirm, print_json, print_progress  # noqa: PLC0415 - heavy
        from gems.apps.cli.runner import run_query  # noqa: PLC0415
        from gems.apps.cli.text import pluralize  # noqa: PLC0415

        question = "Replace the experience store with one rebuilt from all runs?"
        if not dry_run and not confirm(question, yes=yes, as_json=json):
            raise typer.Exit(FAILED)
        done: Rebuilt = run_query(lambda gems: gems.rebuild_memory(print_progress("run"), dry_run=dry_run))
        for run in done.unreadable:
            typer.echo(f"warning: run {run} cannot be read", err=True)
        if json:
            print_json(done)
            return
        typer.echo(f"{pluralize(done.experiences, 'experience')} of {pluralize(done.runs, 'run')}")
        if done.aside:
            typer.echo(f"The old store was moved to {done.aside}.", err=True)
