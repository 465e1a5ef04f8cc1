"""Gems memory."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import FAILED, handle_errors
from gems.apps.text import clean_text, one_line, pluralize
from gems.errors import OptionError

if TYPE_CHECKING:
    from gems.runs.memory_admin import ConsolidationReport, Forgotten, ImportReport, Memory, Rebuilt, Stats
    from gems.service import Gems

Generator = Annotated[str | None, typer.Option(metavar="NAME", help="Only those about this generator.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="Maximum number shown.")]


def list_(
    limit: Limit = 20,
    generator: Generator = None,
    kind: Annotated[Literal["experience", "lesson"] | None, typer.Option(help="Show only this kind.")] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """List lessons and experiences, newest first.

    `gems memory consolidate` derives lessons from several experiences. The key of an experience consists of
    its run and round.

    \b
    Examples:
      gems memory list
      gems memory list --kind lesson --json

    \b
    Exit codes:
      0  listed, even if there are none
      2  bad usage or configuration
      1  failure
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.runner import run_query

        _print_memories(run_query(lambda gems: gems.memory.listed(limit, generator, kind)), as_json=json)


def search(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Search text.")],
    limit: Limit = 10,
    generator: Generator = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Find lessons and experiences similar to a text, most similar first.

    \b
    Example:
      gems memory search "five hearts below a circle"

    \b
    Exit codes:
      0  searched, even if nothing was found
      2  bad usage or configuration
      1  failure
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.runner import run_query

        _print_memories(run_query(lambda gems: gems.memory.search(text, limit, generator)), as_json=json)


def show(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Key from `gems memory list`.")],
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show everything about one lesson or experience.

    \b
    Example:
      gems memory show 20260131-120000-4f2a9c:1

    \b
    Exit codes:
      0  shown
      2  bad usage or configuration, or no such key
      1  failure
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json
        from gems.apps.cli.runner import run_query

        found: Memory = run_query(lambda gems: gems.memory.show(key))
        if json:
            print_json(found)
            return
        typer.echo("\n".join(_memory_lines(found)))
        for name, value in found.value.items():
            if name not in ("text", "text_indexed", "generator", "record"):
                typer.echo(f"  {name}: {_format_value(value)}")


def stats(json: options.Json = False, debug: options.Debug = False) -> None:
    """Show the location, embedder, size and track record of the memory.

    \b
    Exit codes:
      0  shown
      2  bad usage or configuration
      1  failure
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json
        from gems.apps.cli.runner import run_query

        found: Stats = run_query(lambda gems: gems.memory.stats())
        if json:
            print_json(found)
            return
        typer.echo(f"where: {found.where}\nembedder: {found.embedder}")
        for name, counts in (("experiences", found.experiences), ("lessons", found.lessons)):
            each = ", ".join(f"{count} about {generator}" for generator, count in counts.items())
            typer.echo(f"{name}: {sum(counts.values())}{f' ({each})' if each else ''}")
        record = found.record
        typer.echo(f"shown {record['shown']} times, helped {record['helped']}, did not help {record['hurt']}")
        typer.echo(f"waiting to be written: {found.pending}")


def _print_memories(found: list[Memory], *, as_json: bool) -> None:
    from gems.apps.cli.output import print_json

    if as_json:
        print_json({"memories": [memory.model_dump() for memory in found]})
    elif found:
        typer.echo("\n".join(line for memory in found for line in _memory_lines(memory)))
    else:
        typer.echo("No lessons or experiences found.", err=True)


def _memory_lines(memory: Memory) -> list[str]:

    record = memory.value["record"]
    tried = record["helped"] + record["hurt"]
    came = f"held {record['helped']} of {tried}" if tried else "not tried"
    alike = f"  {memory.similarity:.2f}" if memory.similarity is not None else ""
    return [
        clean_text(f"{memory.key}  {memory.kind}  {memory.generator}  {came}{alike}"),
        f"  {one_line(memory.value['text'])}",
    ]


def _format_value(value: object) -> str:

    if isinstance(value, list):
        return one_line("; ".join(_format_value(item) for item in value) or "none")
    if isinstance(value, dict):
        return one_line(str(value.get("question", value)))
    return one_line(str(value))


def forget(
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Only those of this run.")] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Only those older than this, e.g. 12h, 30d, 8w.")
    ] = None,
    matching: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Only those with TEXT in prompt or text, ignoring case."),
    ] = None,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Delete experiences, and every lesson derived from one of them.

    Conditions are combined with AND. The runs themselves stay; `gems delete` deletes those.

    \b
    Examples:
      gems memory forget --run 20260131-120000-4f2a9c
      gems memory forget --older-than 30d --matching cat --yes

    \b
    Exit codes:
      0  deleted, or --dry-run
      2  bad usage or configuration
      1  not confirmed, or failure
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import confirm, print_json
        from gems.apps.cli.runner import run_query
        from gems.options import parse_duration

        before = None if older_than is None else datetime.now(UTC) - parse_duration(older_than)

        async def forget_matching(gems: Gems, *, dry: bool) -> Forgotten:
            return await gems.memory.forget(run=run, older_than=before, matching=matching, dry_run=dry)

        found = run_query(lambda gems: forget_matching(gems, dry=True))
        if not json:
            counts = f"{pluralize(found.experiences, 'experience')}, {pluralize(found.lessons, 'lesson')}"
            waiting = f"; {found.pending} waiting to be written" if found.pending else ""
            typer.echo(f"{counts} to delete{waiting}", err=True)
        if not dry_run and found.experiences + found.lessons + found.pending:
            if not confirm("Delete them?", yes=yes, as_json=json):
                raise typer.Exit(FAILED)
            found = run_query(lambda gems: forget_matching(gems, dry=False))
            if not json:
                typer.echo("deleted")
        if json:
            print_json(found)


def rebuild(
    yes: options.Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only report what the runs contain.")] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Rebuild a damaged or lost experience store from all runs.

    The old folder is renamed; on a Chroma server the collections of GEMS are deleted. Track records are
    restored, and so are deleted experiences of existing runs. Run `gems memory consolidate` afterwards to
    derive lessons again, and repeat any imports.

    \b
    Examples:
      gems memory rebuild
      gems memory rebuild --dry-run --json

    \b
    Exit codes:
      0  rebuilt, or --dry-run
      2  bad usage or configuration
      1  not confirmed, or failure
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import confirm, print_json, print_progress
        from gems.apps.cli.runner import run_query

        question = "Replace the experience store with one rebuilt from all runs?"
        if not dry_run and not confirm(question, yes=yes, as_json=json):
            raise typer.Exit(FAILED)
        done: Rebuilt = run_query(lambda gems: gems.rebuild_memory(print_progress("run"), dry_run=dry_run))
        for run in done.unreadable:
            typer.echo(f"warning: run {run} cannot be read", err=True)
        if json:
            print_json(done)
            return
        typer.echo(f"{pluralize(done.experiences, 'experience')} of {pluralize(done.runs, 'run')}")
        if done.aside:
            typer.echo(f"The old store was moved to {done.aside}.", err=True)


def export(
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Output file. Default: standard output."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON summary; requires --out.")] = False,
    debug: options.Debug = False,
) -> None:
    """Export all lessons and experiences as JSON Lines.

    \b
    Examples:
      gems memory export > memory.jsonl
      gems memory export --out memory.jsonl

    \b
    Exit codes:
      0  written
      2  bad usage or configuration
      1  failure
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json
        from gems.apps.cli.runner import run_query
        from gems.memory.file_store import write_atomically
        from gems.memory.sqlite import storage_error

        if json and out is None:
            raise OptionError("--json requires an output file.", hint="Pass --out FILE.")

        async def export_lines(gems: Gems) -> list[str]:
            return [line async for line in gems.memory.export()]

        lines = run_query(export_lines)
        text = "".join(f"{line}\n" for line in lines)
        if out is None:
            typer.echo(text, nl=False)
            return
        try:
            write_atomically(out, text.encode())
        except OSError as error:
            raise storage_error(error, out) from error
        if json:
            print_json({"path": str(out), "lines": len(lines)})
        else:
            typer.echo(f"{pluralize(len(lines), 'line')} written to {out}", err=True)


def import_(
    source: Annotated[str, typer.Argument(metavar="FILE", help="JSON Lines file; - reads standard input.")],
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Import an export. Importing it twice changes nothing.

    Invalid lines are reported by number; all others are imported.

    \b
    Examples:
      gems memory import memory.jsonl
      gems memory import - < memory.jsonl

    \b
    Exit codes:
      0  all lines were imported
      1  some lines were invalid, or failure
      2  bad usage or configuration
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json
        from gems.apps.cli.runner import run_query

        lines = _read_lines(source)
        done: ImportReport = run_query(lambda gems: gems.memory.import_lines(lines))
        for number, fault in done.faults:
            typer.echo(f"line {number}: {one_line(fault, 200)}", err=True)
        if json:
            print_json(done)
        else:
            typer.echo(f"{done.added} added, {done.updated} updated, {done.unchanged} unchanged")
        if done.faults:
            raise typer.Exit(FAILED)


def _read_lines(source: str) -> list[Any]:
    if source == "-":
        return sys.stdin.buffer.read().split(b"\n")
    try:
        return Path(source).read_bytes().split(b"\n")
    except OSError as error:
        raise OptionError(
            f"Cannot read {source}: {error.strerror}.", hint="Pass a file from `gems memory export`."
        ) from None


def consolidate(
    chat: options.Chat = None,
    no_model: Annotated[
        bool,
        typer.Option("--no-model", help="Use the most central experience of each cluster as its lesson."),
    ] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Derive a lesson from each group of similar experiences.

    The reflector's chat model writes the lessons. Groups without new experiences are skipped. Runs are shown
    lessons before experiences.

    \b
    Examples:
      gems memory consolidate
      gems memory consolidate --no-model --json

    \b
    Exit codes:
      0    done
      2    bad usage or configuration
      1    failure
      130  interrupted; finished lessons are kept
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json

        done = _consolidate(None if no_model else options.Models(chat=chat))
        for reason in dict.fromkeys(done.unwritten):
            typer.echo(f"warning: used the most central experience as a lesson: {one_line(reason)}", err=True)
        if json:
            print_json(done)
            return
        typer.echo(
            f"{pluralize(done.lessons, 'lesson')} from {pluralize(done.experiences, 'experience')}: "
            f"{done.added} added, {done.removed} removed"
        )


def _consolidate(models: options.Models | None) -> ConsolidationReport:
    """Consolidate without a generator, and without a chat model if `models` is None."""
    from gems.apps.cli.output import print_progress
    from gems.apps.cli.runner import run_query, run_with_chat, settings_with

    if models is None:
        return run_query(lambda gems: gems.memory.consolidate(print_progress("cluster"), use_model=False))
    return run_with_chat(
        settings_with(models), lambda gems: gems.memory.consolidate(print_progress("cluster"))
    )


def reindex(json: options.Json = False, debug: options.Debug = False) -> None:
    """Re-embed items of another embedder after GEMS_EMBEDDER was changed.

    \b
    Exit codes:
      0    done, even if nothing had to be re-embedded
      2    bad usage or configuration
      1    failure
      130  interrupted; run the command again to start over
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json
        from gems.apps.cli.runner import run_query

        async def reindex_memory(gems: Gems) -> dict[str, Any]:
            count = await gems.memory.reindex(lambda done: typer.echo(f"{done} done", err=True))
            return {"items": count, "embedder": (await gems.memory.stats()).embedder}

        found = run_query(reindex_memory)
        if json:
            print_json(found)
        else:
            typer.echo(f"{pluralize(found['items'], 'item')} re-embedded with {found['embedder']}")


memory = typer.Typer(
    name="memory",
    rich_markup_mode=None,
    invoke_without_command=True,
)


@memory.callback()
def _memory(context: typer.Context) -> None:
    """Lessons and experiences that runs share."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


memory.command("list")(list_)
memory.command()(search)
memory.command()(show)
memory.command()(stats)
memory.command()(consolidate)
memory.command()(forget)
memory.command()(export)
memory.command("import")(import_)
memory.command()(reindex)
memory.command()(rebuild)
