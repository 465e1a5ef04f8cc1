"""`gems run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import handle_errors
from gems.errors import PromptError
from gems.types import Profile


def run(  # noqa: PLR0913, PLR0917 - the command's options
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to generate; - reads it from stdin.")],
    source: Annotated[
        Path | None,
        typer.Option(
            parser=options.path,
            metavar="FILE",
            help="PNG, JPEG or WebP image to edit; the prompt says what to change.",
        ),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=50, help="Maximum number of rounds. Default: 5.")
    ] = None,
    candidates: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=16, help="Images per round. Default: 1.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH", help="Width and height in pixels. Default: that of the source or the generator."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, max=2**31 - 1, help="Random seed. Chosen at random and recorded if omitted."
        ),
    ] = None,
    profile: Annotated[
        Profile | None,
        typer.Option(help="balanced, or paper for the same calls as the paper. Default: balanced."),
    ] = None,
    negative_prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="What to avoid.")] = None,
    chat: options.Chat = None,
    judge: options.Judge = None,
    generator: options.Generator = None,
    skills: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="auto, none, or names separated by commas. Default: auto."),
    ] = None,
    out: options.Out = None,
    budget_usd: Annotated[
        float | None,
        typer.Option(metavar="USD", help="Stop starting new work after spending this many US dollars."),
    ] = None,
    max_images: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Maximum number of images.")
    ] = None,
    deadline: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Stop after this time and keep the best image.")
    ] = None,
    plateau: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            max=50,
            help="Stop after N rounds without progress; 0 means never. Default: 7, or 0 with paper.",
        ),
    ] = None,
    no_memory: Annotated[
        bool, typer.Option("--no-memory", help="Do not use or record lessons and experiences.")
    ] = False,
    no_metadata: options.NoMetadata = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Generate an image, check it against the prompt, and refine it until it matches.

    Progress is printed to standard error and the result to standard output; its last line is the path of the
    best image.

    \b
    Examples:
      gems run "three red circles above a blue striped square"
      gems run --rounds 8 --candidates 2 --out poster.png - < prompt.txt
      gems run --chat openai:Qwen/Qwen3-VL-8B-Instruct@http://127.0.0.1:8000/v1 \\
               --generator diffusers:z-image-turbo "a cat on a red chair"
      gems run --source photo.jpg "make the car red" --generator openai:gpt-image-1
      path=$(gems run --quiet "two green stars")

    \b
    Exit codes:
      0    every requirement is met
      3    the best image misses a requirement, or could not be checked
      2    bad usage or configuration
      1    failure without an image
      130  interrupted; resume with `gems resume RUN`
    """  # noqa: D301 - \b keeps the lines apart
    models = options.Models(chat, judge, generator, out, no_metadata)
    view = options.View(json=json, quiet=quiet, debug=debug)
    with handle_errors(as_json=json, debug=debug, resume_command=models.resume_command):
        from gems.apps.cli.output import print_run  # noqa: PLC0415 - heavy
        from gems.apps.cli.runner import start_run  # noqa: PLC0415

        result = start_run(
            _read_prompt(prompt),
            models,
            view,
            max_rounds=rounds,
            candidates=candidates,
            size=size,
            seed=seed,
            profile=profile,
            negative_prompt=negative_prompt,
            skills=skills,
            max_images=max_images,
            budget_usd=budget_usd,
            deadline_s=deadline,
            plateau=plateau,
            memory=False if no_memory else None,
            source=source,
            out=out,
            metadata=not no_metadata,
        )
        raise typer.Exit(print_run(result, view, models))


def _read_prompt(prompt: str) -> str:
    if prompt != "-":
        return prompt
    try:
        return sys.stdin.read().strip()
    except UnicodeDecodeError:
        raise PromptError("Standard input is not valid UTF-8.", hint="Encode the prompt as UTF-8.") from None
