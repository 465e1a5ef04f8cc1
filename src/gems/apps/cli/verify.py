"""`gems verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import BEST_EFFORT, MET, clean, handle_errors
from gems.apps.cli.text import one_line

if TYPE_CHECKING:
    from gems.runs.verification import Verification

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
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy
        from gems.apps.cli.runner import mute_node_warnings, run_async, settings_with  # noqa: PLC0415
        from gems.service import Gems  # noqa: PLC0415
        from gems.settings import GeneratorSettings  # noqa: PLC0415

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
        typer.echo(clean(f"warning: {warning}"), err=True)
    for item in found.requirements:
        line = f"{_TICKS[item.answer]}: {one_line(item.question)}  {one_line(item.evidence)}"
        typer.echo(line.rstrip())
    met = sum(item.answer == "yes" for item in found.requirements)
    typer.echo(f"{met} of {len(found.requirements)} met, score {found.score:.2f}")
