"""Run, resume, fork, verify."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import BEST_EFFORT, MET, handle_errors
from gems.apps.text import clean_text, one_line
from gems.errors import PromptError
from gems.types import Profile

if TYPE_CHECKING:
    from gems.runs.verification import Verification


def run(
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
    """
    models = options.Models(chat, judge, generator, out, no_metadata)
    view = options.View(json=json, quiet=quiet, debug=debug)
    with handle_errors(as_json=json, debug=debug, resume_command=models.resume_command):
        from gems.apps.cli.output import print_run
        from gems.apps.cli.runner import start_run

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


def fork(
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
    """
    models = options.Models(chat, judge, generator)
    view = options.View(json=json, quiet=quiet, debug=debug)
    with handle_errors(as_json=json, debug=debug, resume_command=models.resume_command):
        from gems.apps.cli.output import print_run
        from gems.apps.cli.runner import fork_run

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


def resume(
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
    """
    models = options.Models(chat, judge, generator, out, no_metadata)
    view = options.View(json=json, quiet=quiet, debug=debug)
    with handle_errors(as_json=json, debug=debug, resume_command=models.resume_command):
        from gems.apps.cli.output import print_run
        from gems.apps.cli.runner import resume_run

        result = resume_run(run_id, models, view, answer, out=out, metadata=not no_metadata)
        raise typer.Exit(print_run(result, view, models))


_TICKS = {"yes": "met", "no": "not met", "unknown": "unknown"}


def verify(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="PNG, JPEG or WebP file.")],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What the image should show.")],
    chat: options.Chat = None,
    judge: options.Judge = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Check any image against a prompt, without generating one.

    The prompt is decomposed into requirements, and each is checked in the image, as in a run.

    \b
    Examples:
      gems verify poster.png "two green stars"
      gems verify photo.jpg "a cat on a red chair" --json

    \b
    Exit codes:
      0    every requirement is met
      3    the image misses a requirement, or one could not be checked
      2    bad usage or configuration, or invalid image
      1    failure
      130  interrupted
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json
        from gems.apps.cli.runner import mute_node_warnings, run_async, settings_with
        from gems.service import Gems
        from gems.settings import GeneratorSettings

        # No generator is needed, so an unusable one must not fail.
        settings = settings_with(options.Models(chat, judge)).model_copy(
            update={"generator": GeneratorSettings()}
        )

        async def verify_image() -> Verification:
            async with Gems(settings) as gems:
                return await gems.verify(image, prompt)

        with mute_node_warnings(debug=debug):
            found = run_async(verify_image())
        if json:
            print_json(found)
        else:
            _print_verification(found)
        raise typer.Exit(MET if found.passed else BEST_EFFORT)


def _print_verification(found: Verification) -> None:
    for warning in found.warnings:
        typer.echo(clean_text(f"warning: {warning}"), err=True)
    for item in found.requirements:
        line = f"{_TICKS[item.answer]}: {one_line(item.question)}  {one_line(item.evidence)}"
        typer.echo(line.rstrip())
    met = sum(item.answer == "yes" for item in found.requirements)
    typer.echo(f"{met} of {len(found.requirements)} met, score {found.score:.2f}")
