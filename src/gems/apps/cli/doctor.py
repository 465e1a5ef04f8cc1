"""`gems doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import FAILED, MET, handle_errors

if TYPE_CHECKING:
    from gems.apps.doctor import Check


def doctor(
    chat: options.Chat = None,
    judge: options.Judge = None,
    generator: options.Generator = None,
    no_draw: Annotated[
        bool, typer.Option("--no-draw", help="Skip the test image, which costs money with a paid generator.")
    ] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Check the configuration with small real requests.

    Checks that each chat model answers, sees images and returns structured output; that the generator can
    generate one image of its smallest size (this may cost money; skip it with --no-draw); that the stores are
    writable; that traces can be exported; and which extras are installed.

    \b
    Examples:
      gems doctor
      gems doctor --no-draw --chat openai:Qwen/Qwen3-VL-8B-Instruct@http://127.0.0.1:8000/v1

    \b
    Exit codes:
      0    every check passed
      1    a check failed; its line says what to do
      2    bad usage
      130  interrupted
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json
        from gems.apps.cli.runner import run_async, settings_with
        from gems.apps.cli.tables import print_check
        from gems.apps.doctor import DoctorReport, checkup

        models = options.Models(chat, judge, generator)

        async def run_checks() -> list[Check]:
            checks = []
            async for check in checkup(lambda: settings_with(models), draw=not no_draw):
                checks.append(check)
                if not json:
                    print_check(check)
            return checks

        checks = run_async(run_checks())
        fine = all(check.status != "failed" for check in checks)
        if json:
            print_json(DoctorReport(ok=fine, checks=checks))
        raise typer.Exit(MET if fine else FAILED)
