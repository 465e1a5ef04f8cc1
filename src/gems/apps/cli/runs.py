"""`gems runs`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import handle_errors

if TYPE_CHECKING:
    from gems.memory.run_filter import RunFilter
    from gems.types import RunRow

Status = Literal["running", "interrupted", "done", "failed"]


def runs(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Maximum number of runs.")] = 20,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Started at or after WHEN: 2026-01-31, or 3d for 3 days ago."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Started at or before WHEN; a date includes the whole day."),
    ] = None,
    status: Annotated[Status | None, typer.Option(help="Only runs with this status.")] = None,
    text: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Prompt contains TEXT, ignoring case.")
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", min=0, max=1, help="Best image meets at least this share of the requirements."
        ),
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """List the runs in GEMS_HOME, newest first.

    Times are local; run ids start with the time in UTC. Resume an interrupted or failed run with `gems resume
    RUN`. Filters are combined with AND. WHEN is a date with or without a time, or an age: 30m, 12h, 3d, 2w.

    \b
    Examples:
      gems runs
      gems runs --limit 100 --json
      gems runs --since 3d --status done --min-score 0.8
      gems runs --since 2026-01-01 --until 2026-01-31 --text "red cat"

    \b
    Exit codes:
      0  listed, even if there are none
      2  bad usage or configuration
      1  failure
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy
        from gems.apps.cli.runner import run_query  # noqa: PLC0415
        from gems.apps.cli.tables import print_runs  # noqa: PLC0415

        run_filter = _run_filter(since, until, status, text, min_score)
        found: list[RunRow] = run_query(lambda gems: gems.runs(limit, run_filter))
        if json:
            print_json({"runs": found})
        elif found:
            print_runs(found)
        elif any(value is not None for value in (since, until, status, text, min_score)):
            typer.echo("No run matches.", err=True)
        else:
            typer.echo("There are no runs yet. Start one with `gems run`.", err=True)


def _run_filter(
    since: str | None, until: str | None, status: Status | None, text: str | None, min_score: float | None
) -> RunFilter:
    from gems.memory.run_filter import RunFilter  # noqa: PLC0415 - loads the stores
    from gems.options import parse_datetime  # noqa: PLC0415

    now = datetime.now(UTC)
    return RunFilter(
        since=None if since is None else parse_datetime(since, now=now),
        until=None if until is None else parse_datetime(until, now=now, end=True),
        status=status,
        text=text,
        min_score=min_score,
    )
