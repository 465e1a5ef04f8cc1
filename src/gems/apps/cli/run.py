"""`gems run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import reported
from gems.errors import PromptError
from gems.types import Profile


def run(  # noqa: PLR0913, PLR0917 - the command's options
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to draw; - reads it from stdin.")],
    source: Annotated[
        Path | None,
        typer.Option(
            parser=options.path,
            metavar="FILE",
            help="Edit this PNG, JPEG or WebP picture; the prompt says what to change.",
        ),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=50, help="Most rounds; 5 by default.")
    ] = None,
    candidates: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=16, help="Images per round; 1 by default.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH", help="Width and height in pixels; the source's or the generator's own by default."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, max=2**31 - 1, help="Where chance begins; random and recorded by default."
        ),
    ] = None,
    profile: Annotated[
        Profile | None,
        typer.Option(help="balanced is the default; paper makes the same calls as the paper."),
    ] = None,
    negative_prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="What to avoid.")] = None,
    chat: options.Chat = None,
    judge: options.Judge = None,
    generator: options.Generator = None,
    skills: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="auto, none, or names separated by commas; auto by default."),
    ] = None,
    out: options.Out = None,
    budget_usd: Annotated[
        float | None, typer.Option(metavar="USD", help="Begin nothing new once so much is spent.")
    ] = None,
    max_images: Annotated[int | None, typer.Option(metavar="N", min=1, help="Most images in all.")] = None,
    deadline: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Stop after so long with the best so far.")
    ] = None,
    plateau: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            max=50,
            help="Stop after N rounds without progress, 0 for never; 7 by default, 0 with paper.",
        ),
    ] = None,
    no_memory: Annotated[
        bool, typer.Option("--no-memory", help="Learn nothing from other runs, and leave them nothing.")
    ] = False,
    no_metadata: options.NoMetadata = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Draw a prompt, check the image, and go on until it is right.

    Progress goes to standard error. On standard output stands the result, and on its last line the path of
    the best image.

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
      3    the best image lacks something, or could not be checked
      2    bad usage or configuration
      1    failure, and no image
      130  interrupted; `gems resume RUN` goes on
    """  # noqa: D301 - \b keeps the lines apart
    models = options.Models(chat, judge, generator, out, no_metadata)
    view = options.View(json=json, quiet=quiet, debug=debug)
    with reported(as_json=json, debug=debug, resume_command=models.resume_command):
        from gems.apps.cli.output import handed_over  # noqa: PLC0415 - heavy
        from gems.apps.cli.runner import begun  # noqa: PLC0415

        result = begun(
            _text(prompt),
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
        raise typer.Exit(handed_over(result, view, models))


def _text(prompt: str) -> str:
    if prompt != "-":
        return prompt
    try:
        return sys.stdin.read().strip()
    except UnicodeDecodeError:
        raise PromptError("Standard input holds no text.", hint="Send the prompt as UTF-8.") from None
