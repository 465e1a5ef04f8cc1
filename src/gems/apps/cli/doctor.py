"""`gems doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from gems.apps.cli.command import command
from gems.apps.cli.errors import FAILED, MET
from gems.apps.cli.options import Models, flag

if TYPE_CHECKING:
    from gems.apps.cli.runner import Runner
    from gems.apps.doctor import Check


@command({0: "every check passed", 1: "a check failed; its line says what to do", 2: "bad usage", 130: "interrupted"})
def doctor(
    runner: Runner,
    models: Models,
    no_draw: Annotated[
        bool, flag("--no-draw", "Skip the test image, which costs money with a paid generator.")
    ] = False,
) -> int:
    """Check the configuration with small real requests.

    Checks that each chat model answers, sees images and returns structured output; that the generator can
    generate one image of its smallest size (this may cost money; skip it with --no-draw); that the stores are
    writable; that traces can be exported; and which extras are installed.

    \b
    Examples:
      gems doctor
      gems doctor --no-draw --chat openai:Qwen/Qwen3-VL-8B-Instruct@http://127.0.0.1:8000/v1
    """
    from gems.apps.cli.output import print_json
    from gems.apps.cli.tables import print_check
    from gems.apps.doctor import DoctorReport, checkup

    async def run_checks() -> list[Check]:
        checks = []
        async for check in checkup(models.settings, draw=not no_draw):
            checks.append(check)
            if not runner.json:
                print_check(check)
        return checks

    checks = runner.run(run_checks())
    fine = all(check.status != "failed" for check in checks)
    if runner.json:
        print_json(DoctorReport(ok=fine, checks=checks))
    return MET if fine else FAILED
