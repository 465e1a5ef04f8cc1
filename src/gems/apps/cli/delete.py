"""`gems delete`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import FAILED, reported

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
    """Delete a run, and the images that no other run uses.

    Its checkpoints, its rows in the ledger and its picture in outputs of GEMS_HOME go too; a file that was
    written elsewhere with --out stays. A run that is being worked on is not deleted. Runs that were forked
    from it keep everything they share.

    \b
    Examples:
      gems delete 20260131-120000-4f2a9c
      gems delete last --yes

    \b
    Exit codes:
      0    deleted, or only looked at
      2    bad usage or configuration, no such run, or it is being worked on
      1    not deleted: the answer was no, or a failure
      130  interrupted
    """  # noqa: D301 - \b keeps the lines apart
    with reported(as_json=json, debug=debug):
        from rich.filesize import decimal  # noqa: PLC0415 - heavy, as is what follows

        from gems.apps.cli.asking import agreed  # noqa: PLC0415
        from gems.apps.cli.output import print_json  # noqa: PLC0415
        from gems.apps.cli.runner import looked_up, run_named  # noqa: PLC0415
        from gems.apps.cli.text import counted, one_line  # noqa: PLC0415

        async def looking(gems: Gems) -> Deletion:
            return await gems.delete(await run_named(gems, run_id), dry_run=True)

        found = looked_up(looking)
        images = f"{counted(found.images, 'image')} ({decimal(found.image_bytes)})"
        kept = f"; {counted(found.kept_images, 'image')} of it used elsewhere" if found.kept_images else ""
        if not json:
            typer.echo(f"{found.run_id}: {one_line(found.prompt, 80)}", err=True)
            typer.echo(f"  {counted(found.rows, 'row')}, {images} to delete{kept}", err=True)
        if not dry_run:
            if not agreed(f"Delete {found.run_id}?", yes=yes, as_json=json):
                raise typer.Exit(FAILED)
            found = looked_up(lambda gems: gems.delete(found.run_id))
            if not json:
                typer.echo(f"deleted {found.run_id}")
        if json:
            print_json(found)
