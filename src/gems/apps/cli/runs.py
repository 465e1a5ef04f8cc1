"""`gems runs`, `show`, `report`, `delete` and `gc`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.filesize import decimal

from gems.apps.cli import options
from gems.apps.cli.command import command
from gems.apps.cli.options import flag, option
from gems.apps.text import one_line, pluralize

if TYPE_CHECKING:
    from gems.apps.cli.runner import Runner
    from gems.results import RunResult
    from gems.runs.cleanup import Deletion, Garbage
    from gems.service import Gems

Status = Literal["running", "interrupted", "done", "failed"]


@command({0: "listed, even if there are none"})
def runs(
    runner: Runner,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Maximum number of runs.")] = 20,
    since: Annotated[str | None, option("WHEN", "Started at or after WHEN: 2026-01-31, or 3d for 3 days ago.")] = None,
    until: Annotated[str | None, option("WHEN", "Started at or before WHEN; a date includes the whole day.")] = None,
    status: Annotated[Status | None, typer.Option(help="Only runs with this status.")] = None,
    text: Annotated[str | None, option("TEXT", "Prompt contains TEXT, ignoring case.")] = None,
    min_score: Annotated[
        float | None, option("SHARE", "Best image meets at least this share of the requirements.", min=0, max=1)
    ] = None,
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
    """
    from gems.apps.cli.tables import print_runs
    from gems.memory.run_filter import RunFilter
    from gems.options import parse_datetime

    now = datetime.now(UTC)
    run_filter = RunFilter(
        since=None if since is None else parse_datetime(since, now=now),
        until=None if until is None else parse_datetime(until, now=now, end=True),
        status=status,
        text=text,
        min_score=min_score,
    )
    found = runner.query(lambda gems: gems.runs(limit, run_filter))
    if found or runner.json:
        runner.show({"runs": found}, lambda shown: print_runs(shown["runs"]))
    elif run_filter == RunFilter():
        typer.echo("There are no runs yet. Start one with `gems run`.", err=True)
    else:
        typer.echo("No run matches.", err=True)


@command(
    {
        0: "deleted, or --dry-run",
        2: "bad usage or configuration, no such run, or the run is in progress",
        1: "not confirmed, or failure",
        130: "interrupted",
    }
)
def delete(runner: Runner, run_id: options.RunId, yes: options.Yes = False, dry_run: options.DryRun = False) -> None:
    """Delete a run and the images that no other run uses.

    Also deletes its checkpoints, its rows in the ledger and its image in GEMS_HOME/outputs. Files written
    elsewhere with --out stay. A run in progress is not deleted. Forks of the run keep what they share with
    it.

    \b
    Examples:
      gems delete 20260131-120000-4f2a9c
      gems delete last --yes
    """

    async def delete_run(gems: Gems, found: Deletion | None) -> Deletion:
        # Another run may be the last one by now.
        name = await runner.resolve_run_id(gems, run_id) if found is None else found.run_id
        return await gems.delete(name, dry_run=found is None)

    runner.delete(delete_run, _describe_deletion, name=lambda found: found.run_id, yes=yes, dry_run=dry_run)


def _describe_deletion(found: Deletion) -> str:
    images = f"{pluralize(found.images, 'image')} ({decimal(found.image_bytes)})"
    kept = f"; {pluralize(found.kept_images, 'image')} also used elsewhere" if found.kept_images else ""
    return f"{found.run_id}: {one_line(found.prompt, 80)}\n  {pluralize(found.rows, 'row')}, {images} to delete{kept}"


@command({0: "deleted, or nothing to delete", 1: "not confirmed, or failure", 130: "interrupted"})
def gc(
    runner: Runner,
    min_age: Annotated[str, option("AGE", "Keep everything younger than this; at least 1h.")] = "1h",
    unlisted: Annotated[
        bool, flag("--unlisted", "Also delete unlisted runs: those of Studio and your own programs.")
    ] = False,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
) -> None:
    """Delete images that no run uses, and files left by killed processes.

    Reports what would be deleted and asks first. Runs in progress are not touched.

    \b
    Examples:
      gems gc
      gems gc --dry-run --json
      gems gc --unlisted --min-age 2w --yes
    """
    from gems.options import parse_duration

    age = parse_duration(min_age)
    runner.delete(
        lambda gems, found: gems.gc(dry_run=found is None, min_age=age, unlisted=unlisted),
        partial(_describe_garbage, unlisted=unlisted),
        is_empty=lambda found: found.nothing and not (unlisted and found.unlisted_runs),
        yes=yes,
        dry_run=dry_run,
    )


def _describe_garbage(found: Garbage, *, unlisted: bool) -> str:
    lines = [
        f"{pluralize(found.images, 'image')} ({decimal(found.image_bytes)}) that no run uses",
        f"{pluralize(found.leftovers, 'unfinished file')} ({decimal(found.leftover_bytes)})",
        pluralize(found.locks, "old lock file"),
    ]
    if found.unlisted_runs:
        runs = f"{pluralize(found.unlisted_runs, 'run')} with {pluralize(found.unlisted_rows, 'row')}"
        more = "" if unlisted else "; --unlisted deletes them too"
        lines.append(f"{runs} that `gems runs` does not list{more}")
    return "\n".join(lines)


@command({0: "written; the path is on standard output", 2: "bad usage or configuration, or no such run"})
def report(
    runner: Runner,
    run_id: options.RunId,
    out: Annotated[
        Path | None, option("FILE", "HTML file; - for stdout. Default: RUN.html in the current folder.", "--out", "-o")
    ] = None,
) -> None:
    """Write a self-contained HTML report of a run.

    The page embeds all images and needs no network.

    \b
    Examples:
      gems report last -o report.html
      gems report 20260131-120000-4f2a9c
    """
    from gems.apps.cli.schemas import ReportFile
    from gems.runs.output import write_page

    async def build_report(gems: Gems) -> tuple[str, str]:
        name = await runner.resolve_run_id(gems, run_id)
        return name, await gems.report(name)

    name, page = runner.query(build_report)
    if out == Path("-") and not runner.json:
        typer.echo(page, nl=False)
        return
    path = write_page(page, Path(f"{name}.html") if out is None else out)
    written = ReportFile(run_id=name, path=str(path), bytes=path.stat().st_size)
    runner.show(written, lambda report: typer.echo(report.path))


@command({0: "shown", 2: "bad usage or configuration, or no such run"})
def show(runner: Runner, run_id: options.RunId) -> None:
    """Show a run: its rounds with prompts, answers and evidence, its experiences, usage and image path.

    \b
    Examples:
      gems show last
      gems show 20260131-120000-4f2a9c --json
    """
    from gems.apps.cli.tables import print_details

    async def load_run(gems: Gems) -> tuple[RunResult, Callable[[str], Path]]:
        return await gems.show(await runner.resolve_run_id(gems, run_id)), gems.resources.images.path

    result, path_of = runner.query(load_run)
    runner.show(result, lambda shown: print_details(shown, path_of))
