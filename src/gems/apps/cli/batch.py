"""`gems batch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import handle_errors


def batch(
    file: Annotated[
        Path,
        typer.Argument(
            parser=options.path,
            metavar="FILE",
            help="Prompts as JSON Lines, or as CSV if the name ends in .csv.",
        ),
    ],
    out: options.EvalOut,
    chat: options.Chat = None,
    judge: options.Judge = None,
    generator: options.Generator = None,
    seed: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, max=2**31 - 1, help="Base seed; rows without a seed derive theirs from it."
        ),
    ] = 0,
    learn: Annotated[
        bool, typer.Option("--learn", help="Share memory between these runs and earlier ones.")
    ] = False,
    concurrency: options.Concurrency = 4,
    budget_usd: options.Budget = None,
    retries: options.Retries = 1,
    engine: options.Engine = "local",
    workers: options.Workers = None,
    generator_actors: options.GeneratorActors = None,
    json: options.Json = False,
    quiet: options.EvalQuiet = False,
    debug: options.Debug = False,
) -> None:
    """Generate an image for each prompt in a file, as `gems run` does.

    A line looks like {"id": "cover", "prompt": "two green stars", "seed": 7}. Only the prompt is required; a
    line may also set size, profile, max_rounds, candidates, negative_prompt, skills, max_images, plateau,
    budget_usd and deadline_s. The image is named ID.png; the default id is the line number. All invalid lines
    are reported before anything is generated.

    You can interrupt the command at any time; run it again to resume. Results are recorded in manifest.jsonl.

    \b
    Examples:
      gems batch prompts.jsonl --out pictures
      gems batch prompts.csv --out s3://bucket/pictures --engine ray --generator diffusers:z-image-turbo

    \b
    Exit codes:
      0    every prompt has an image
      3    some prompts failed, or the budget is spent
      2    bad usage or configuration, or invalid lines
      1    failure
      130  interrupted; run the same command again to resume
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.eval_commands import run_batch
        from gems.apps.cli.output import print_report
        from gems.apps.cli.runner import EngineOptions

        view = options.View(json=json, quiet=quiet, debug=debug)
        engine_options = EngineOptions(
            out=out,
            engine=engine,
            concurrency=concurrency,
            workers=workers,
            generator_actors=generator_actors,
            budget_usd=budget_usd,
            retries=retries,
        )
        models = options.Models(chat=chat, judge=judge, generator=generator)
        report = run_batch(file, models, engine_options, view, seed=seed, learn=learn)
        raise typer.Exit(print_report(report, "prompt", view))
