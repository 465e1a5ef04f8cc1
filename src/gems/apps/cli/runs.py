"""`gems runs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.failures import reported

if TYPE_CHECKING:
    from gems.memory.ledger import RunRow


def runs(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Show so many, newest first.")] = 20,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """List the runs of this home, newest first.

    Times are local; the id begins with the same time in UTC. A run that is interrupted or failed goes on
    with `gems resume RUN`.

    \b
    Examples:
      gems runs
      gems runs --limit 100 --json

    \b
    Exit codes:
      0  listed, even if there are none
      2  bad usage or configuration
      1  failure
    """  # noqa: D301 - \b keeps the lines apart
    with reported(as_json=json, debug=debug):
        from gems.apps.cli.handing import print_json  # noqa: PLC0415 - heavy
        from gems.apps.cli.tables import runs_table  # noqa: PLC0415
        from gems.apps.cli.working import looked_up  # noqa: PLC0415

        found: list[RunRow] = looked_up(lambda gems: gems.runs(limit))
        if json:
            print_json({"runs": found})
        elif found:
            runs_table(found)
        else:
            typer.echo("There are no runs yet; `gems run` makes the first one.", err=True)
