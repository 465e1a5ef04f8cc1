"""Run, repair, resume, fork, verify."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gems.apps.cli import options
from gems.apps.cli.command import command
from gems.apps.cli.errors import BEST_EFFORT, MET
from gems.apps.text import clean_text, format_requirement, format_usd, pluralize
from gems.errors import OptionError, PromptError
from gems.options import RunOptions

if TYPE_CHECKING:
    from gems.apps.cli.runner import Runner
    from gems.apps.run_view import RunView
    from gems.events import Event
    from gems.runs.estimate import Estimate
    from gems.runs.verification import Verification
    from gems.service import Gems


def _command(interrupted: str, usage: str = "") -> Callable[[Callable[..., int | None]], Callable[..., None]]:
    """Make a function a command that ends with an image; the texts are those of exit codes 130 and 2."""
    codes = {
        0: "every requirement is met",
        3: "the best image misses a requirement, or could not be checked",
        2: usage,
        1: "failure without an image",
        130: interrupted,
    }
    used = {code: text for code, text in codes.items() if text}
    return command(used, quiet="Hide progress; print only the path.", resumable=True)


@_command("interrupted; resume with `gems resume RUN`")
def run(
    runner: Runner,
    *,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to generate; - reads it from stdin.")],
    source: Annotated[
        Path | None,
        typer.Option(
            parser=options.path,
            metavar="FILE",
            help="PNG, JPEG, WebP, GIF, AVIF or HEIC image to edit; the prompt says what to change.",
        ),
    ] = None,
    mask: options.Mask = None,
    given: RunOptions,
    models: options.Models,
    out: options.Out = None,
    no_metadata: options.NoMetadata = False,
    estimate: Annotated[
        bool,
        options.flag("--estimate", "Only print the expected calls, images and US dollars. Nothing is asked or drawn."),
    ] = False,
) -> int:
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
      gems run --estimate "a red fox and two owls in the snow" --generator openai:gpt-image-1
    """
    from gems.apps.run_view import RunView

    text = _read_prompt(prompt)
    if estimate:
        expected = runner.run(_estimate(models, text, {**given, "source": source, "mask": mask}))
        runner.show(expected, lambda found: typer.echo("\n".join(_format_estimate(found))))
        return MET

    async def start(gems: Gems) -> tuple[RunView, AsyncGenerator[Event]]:
        events = gems.stream(text, **given, source=source, mask=mask, out=out, metadata=not no_metadata)
        return RunView(text), events

    return runner.execute(models, start, out=out, metadata=not no_metadata)


@_command("interrupted; resume with `gems resume RUN`", "bad usage or configuration, or invalid image or mask")
def repair(
    runner: Runner,
    *,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="PNG, JPEG, WebP, GIF, AVIF or HEIC file.")],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What the image should show; - reads it from stdin.")],
    mask: options.Mask = None,
    instruction: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What to change first, in your own words.")
    ] = None,
    given: RunOptions,
    models: options.Models,
    out: options.Out = None,
    no_metadata: options.NoMetadata = False,
) -> int:
    """Check any image against a prompt, and mend what it lacks.

    Your image is round 1: it is checked, not drawn. If it lacks nothing, nothing is drawn. Else its faults are
    mended one after another, each in its place if the generator edits, and only what is better is built upon.
    Without such a generator the image is drawn anew, unless --repair always or --mask forbid it.

    \b
    Examples:
      gems repair poster.png "three red circles above a blue striped square"
      gems repair photo.jpg "a cat on a red chair" --mask chair.png --generator openai:gpt-image-1
      gems repair photo.jpg "a cat on a red chair" --instruction "paint the chair red" --ask
    """
    from gems.apps.run_view import RunView

    text = _read_prompt(prompt)

    async def start(gems: Gems) -> tuple[RunView, AsyncGenerator[Event]]:
        own = {"mask": mask, "instruction": instruction, "out": out, "metadata": not no_metadata}
        return RunView(text), gems.stream_repair(image, text, **given, **own)  # type: ignore[arg-type]

    return runner.execute(models, start, out=out, metadata=not no_metadata)


async def _estimate(models: options.Models, prompt: str, given: dict[str, Any]) -> Estimate:
    from gems.service import Gems

    async with Gems(models.settings()) as gems:
        return await gems.estimate(prompt, **given)


def _format_estimate(found: Estimate) -> Iterator[str]:
    counts = ((found.images_low, found.images_high, "image"), (found.calls_low, found.calls_high, "chat call"))
    ranges = [
        pluralize(high, noun) if low == high else f"{low:,} to {pluralize(high, noun)}" for low, high, noun in counts
    ]
    if found.usd_low is None or found.usd_high is None:
        yield f"{', '.join(ranges)}, US dollars not known"
        yield f"  set {', '.join(found.unpriced)}"
    else:
        low, high = (format_usd(usd) for usd in (found.usd_low, found.usd_high))
        yield f"{', '.join(ranges)}, {low if low == high else f'{low} to {high}'}"
    past = pluralize(found.runs, "past run")
    yield f"  from {past} of these models" if found.runs else "  from the calls of a run in one round and in all rounds"
    if found.prices:
        yield f"  {found.prices}"


def _read_prompt(prompt: str) -> str:
    if prompt != "-":
        return prompt
    try:
        return sys.stdin.read().strip()
    except UnicodeDecodeError:
        raise PromptError("Standard input is not valid UTF-8.", hint="Encode the prompt as UTF-8.") from None


@_command(
    "interrupted; resume the new run with `gems resume RUN`", "bad usage or configuration, or no such run or round"
)
def fork(
    runner: Runner,
    *,
    run_id: options.RunId,
    number: Annotated[int, typer.Option("--round", metavar="K", min=1, help="Last round that both runs share.")],
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Next prompt. Default: the reflector's next prompt.")
    ] = None,
    given: RunOptions,
    models: options.Models,
    out: options.Out = None,
    no_metadata: options.NoMetadata = False,
) -> int:
    """Start a new run from a round of another one.

    The new run shares the history up to round K at no cost; the other run is not changed. The same prompt and
    seed give the same image, so pass another --prompt or --seed. Limits include what is shared; at least K+1
    rounds are allowed by default. If the run was started with --chat, --judge
    or --generator, pass them again.

    \b
    Examples:
      gems fork last --round 2 --prompt "three red circles in a row above a blue square"
      gems fork 20260131-120000-4f2a9c --round 5 --rounds 10
    """
    from gems.apps.run_view import RunView

    async def start(gems: Gems) -> tuple[RunView, AsyncGenerator[Event]]:
        source = await runner.resolve_run_id(gems, run_id)
        known = await gems.show(source)
        shared = {"rounds": known.rounds[:number], "experiences": known.experiences[:number], "run_id": ""}
        view = RunView.of(known.model_copy(update=shared))
        own = {**given, **models.unchosen(), "out": out, "metadata": not no_metadata}
        events = gems.stream_fork(source, number, prompt, **own)  # type: ignore[arg-type]
        if not runner.quiet:
            typer.echo(f"forked from {source} after round {number}", err=True)
        return view, events

    return runner.execute(models, start, out=out, metadata=not no_metadata)


@_command("interrupted; run the same command again to resume", "bad usage or configuration, or no such run")
def resume(
    runner: Runner,
    *,
    run_id: options.RunId,
    models: options.Models,
    out: options.Out = None,
    answer: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Answer to a question of a skill or of --ask.")
    ] = None,
    no_metadata: options.NoMetadata = False,
) -> int:
    """Resume a run that was interrupted, failed, was cancelled or ran out of time.

    Finished images and answers are not paid for again. A completed run is returned unchanged. If the run was
    started with --chat, --judge or --generator, pass them again.

    \b
    Examples:
      gems resume last
      gems resume 20260131-120000-4f2a9c --out poster.png
      gems resume last --answer "in winter"
    """
    from gems.apps.run_view import RunView

    async def start(gems: Gems) -> tuple[RunView, AsyncGenerator[Event]]:
        known = await gems.show(await runner.resolve_run_id(gems, run_id))
        for name in models.unchosen():
            if chosen := known.options.get(name):
                raise OptionError(
                    f"The run {known.run_id} chose the {name} {chosen!r}, and keeps it: --{name} has no effect.",
                    hint=f"Resume it without --{name}, or continue with another one in a fork.",
                )
        return RunView.of(known), gems.stream_resume(known.run_id, answer, out=out, metadata=not no_metadata)

    return runner.execute(models, start, out=out, metadata=not no_metadata)


@command(
    {
        0: "every requirement is met",
        3: "the image misses a requirement, or one could not be checked",
        2: "bad usage or configuration, or invalid image",
        130: "interrupted",
    }
)
def verify(
    runner: Runner,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="PNG, JPEG, WebP, GIF, AVIF or HEIC file.")],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What the image should show.")],
    chat: options.Chat = None,
    judge: options.Judge = None,
) -> int:
    """Check any image against a prompt, without generating one.

    The prompt is decomposed into requirements, and each is checked in the image, as in a run.

    \b
    Examples:
      gems verify poster.png "two green stars"
      gems verify photo.jpg "a cat on a red chair" --json
    """
    settings = options.Models(chat, judge).settings()
    found = runner.query(lambda gems: gems.verify(image, prompt), settings)
    runner.show(found, _print_verification)
    return MET if found.passed else BEST_EFFORT


def _print_verification(found: Verification) -> None:
    for warning in found.warnings:
        typer.echo(clean_text(f"warning: {warning}"), err=True)
    for item in found.requirements:
        typer.echo(format_requirement(item))
    met = sum(item.answer == "yes" for item in found.requirements)
    typer.echo(f"{met} of {len(found.requirements)} met, score {found.score:.2f}")
