"""`gems delete`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import FAILED, handle_errors

if TYPE_CHECKING:
    from gems.runs.cleanup import Deletion
    from gems.service import Gems


def delete(
    run_id: options.RunId,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Delete a run and the images that no other run uses.

    Also deletes its checkpoints, its rows in the ledger and its image in GEMS_HOME/outputs. Files written
    elsewhere with --out stay. A run in progress is not deleted. Forks of the run keep what they share with
    it.

    \b
    Examples:
      gems delete 20260131-120000-4f2a9c
      gems delete last --yes

    \b
    Exit codes:
      0    deleted, or --dry-run
      2    bad usage or configuration, no such run, or the run is in progress
      1    not confirmed, or failure
      130  interrupted
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from rich.filesize import decimal  # noqa: PLC0415 - heavy, as is what follows

        from gems.apps.cli.output import confirm, print_json  # noqa: PLC0415
        from gems.apps.cli.runner import resolve_run_id, run_query  # noqa: PLC0415
        from gems.apps.cli.text import one_line, pluralize  # noqa: PLC0415

        async def preview(gems: Gems) -> Deletion:
            return await gems.delete(await resolve_run_id(gems, run_id), dry_run=True)

        found = run_query(preview)
        images = f"{pluralize(found.images, 'image')} ({decimal(found.image_bytes)})"
        kept = f"; {pluralize(found.kept_images, 'image')} also used elsewhere" if found.kept_images else ""
        if not json:
            typer.echo(f"{found.run_id}: {one_line(found.prompt, 80)}", err=True)
            typer.echo(f"  {pluralize(found.rows, 'row')}, {images} to delete{kept}", err=True)
        if not dry_run:
            if not confirm(f"Delete {found.run_id}?", yes=yes, as_json=json):
                raise typer.Exit(FAILED)
            found = run_query(lambda gems: gems.delete(found.run_id))
            if not json:
                typer.echo(f"deleted {found.run_id}")
        if json:
            print_json(found)
