"""`gems resume`."""

from __future__ import annotations

from typing import Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import handle_errors


def resume(  # noqa: PLR0913, PLR0917 - the command's options
    run_id: options.RunId,
    chat: options.Chat = None,
    judge: options.Judge = None,
    generator: options.Generator = None,
    out: options.Out = None,
    answer: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Answer to a question that a skill asked.")
    ] = None,
    no_metadata: options.NoMetadata = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Resume a run that was interrupted, failed, was cancelled or ran out of time.

    Finished images and answers are not paid for again. A completed run is returned unchanged. If the run was
    started with --chat, --judge or --generator, pass them again.

    \b
    Examples:
      gems resume last
      gems resume 20260131-120000-4f2a9c --out poster.png
      gems resume last --answer "in winter"

    \b
    Exit codes:
      0    every requirement is met
      3    the best image misses a requirement, or could not be checked
      2    bad usage or configuration, or no such run
      1    failure without an image
      130  interrupted; run the same command again to resume
    """  # noqa: D301 - \b keeps the lines apart
    models = options.Models(chat, judge, generator, out, no_metadata)
    view = options.View(json=json, quiet=quiet, debug=debug)
    with handle_errors(as_json=json, debug=debug, resume_command=models.resume_command):
        from gems.apps.cli.output import print_run  # noqa: PLC0415 - heavy
        from gems.apps.cli.runner import resume_run  # noqa: PLC0415

        result = resume_run(run_id, models, view, answer, out=out, metadata=not no_metadata)
        raise typer.Exit(print_run(result, view, models))
