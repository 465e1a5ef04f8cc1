"""`gems fork`."""

from __future__ import annotations

from typing import Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import handle_errors


def fork(  # noqa: PLR0913, PLR0917 - the command's options
    run_id: options.RunId,
    number: Annotated[
        int, typer.Option("--round", metavar="K", min=1, help="Last round that both runs share.")
    ],
    prompt: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Next prompt. Default: the reflector's next prompt."),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=50,
            help="Maximum number of rounds, shared ones included. Default: as before, at least K+1.",
        ),
    ] = None,
    candidates: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=16, help="Images per round. Default: as before.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, max=2**31 - 1, help="Random seed. Default: as before."),
    ] = None,
    negative_prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What to avoid. Default: as before.")
    ] = None,
    chat: options.Chat = None,
    judge: options.Judge = None,
    generator: options.Generator = None,
    out: options.Out = None,
    budget_usd: Annotated[
        float | None,
        typer.Option(metavar="USD", help="Stop starting new work after spending this many US dollars."),
    ] = None,
    max_images: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Maximum number of images, shared ones included.")
    ] = None,
    deadline: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Stop after this time and keep the best image.")
    ] = None,
    plateau: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, max=50, help="Stop after N rounds without progress, shared ones included."
        ),
    ] = None,
    no_metadata: options.NoMetadata = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Start a new run from a round of another one.

    The new run shares the history up to round K at no cost; the other run is not changed. The same prompt and
    seed give the same image, so pass another --prompt or --seed. If the run was started with --chat, --judge
    or --generator, pass them again.

    \b
    Examples:
      gems fork last --round 2 --prompt "three red circles in a row above a blue square"
      gems fork 20260131-120000-4f2a9c --round 5 --rounds 10

    \b
    Exit codes:
      0    every requirement is met
      3    the best image misses a requirement, or could not be checked
      2    bad usage or configuration, or no such run or round
      1    failure without an image
      130  interrupted; resume the new run with `gems resume RUN`
    """  # noqa: D301 - \b keeps the lines apart
    models = options.Models(chat, judge, generator)
    view = options.View(json=json, quiet=quiet, debug=debug)
    with handle_errors(as_json=json, debug=debug, resume_command=models.resume_command):
        from gems.apps.cli.output import print_run  # noqa: PLC0415 - heavy
        from gems.apps.cli.runner import fork_run  # noqa: PLC0415

        result = fork_run(
            run_id,
            number,
            prompt,
            models,
            view,
            max_rounds=rounds,
            candidates=candidates,
            seed=seed,
            negative_prompt=negative_prompt,
            max_images=max_images,
            budget_usd=budget_usd,
            deadline_s=deadline,
            plateau=plateau,
            out=out,
            metadata=not no_metadata,
        )
        raise typer.Exit(print_run(result, view, models))
