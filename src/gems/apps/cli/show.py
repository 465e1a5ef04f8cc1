"""`gems show`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gems.apps.cli import options
from gems.apps.cli.errors import handle_errors

if TYPE_CHECKING:
    from gems.results import RunResult
    from gems.service import Gems


def show(
    run_id: options.RunId,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show a run: its rounds with prompts, answers and evidence, its experiences, usage and image path.

    \b
    Examples:
      gems show last
      gems show 20260131-120000-4f2a9c --json

    \b
    Exit codes:
      0  shown
      2  bad usage or configuration, or no such run
      1  failure
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy
        from gems.apps.cli.runner import resolve_run_id, run_query  # noqa: PLC0415
        from gems.apps.cli.tables import print_details  # noqa: PLC0415

        async def load_run(gems: Gems) -> tuple[RunResult, Callable[[str], Path]]:
            return await gems.show(await resolve_run_id(gems, run_id)), gems.resources.images.path

        result, path_of = run_query(load_run)
        if json:
            print_json(result)
        else:
            print_details(result, path_of)
