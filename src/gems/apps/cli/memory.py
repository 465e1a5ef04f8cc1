"""`gems memory`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gems.apps.cli import options
from gems.apps.cli.command import command, command_group
from gems.apps.cli.errors import FAILED, MET
from gems.apps.cli.options import argument, flag, option
from gems.apps.text import clean_text, one_line, pluralize
from gems.errors import OptionError

if TYPE_CHECKING:
    from gems.apps.cli.runner import Runner
    from gems.runs.memory_admin import Forgotten, Memory, Stats
    from gems.service import Gems

Generator = Annotated[str | None, option("NAME", "Only those about this generator.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="Maximum number shown.")]


@command({0: "listed, even if there are none"})
def list_(
    runner: Runner,
    limit: Limit = 20,
    generator: Generator = None,
    kind: Annotated[Literal["experience", "lesson"] | None, typer.Option(help="Show only this kind.")] = None,
) -> None:
    """List lessons and experiences, newest first.

    `gems memory consolidate` derives lessons from several experiences. The key of an experience consists of
    its run and round.

    \b
    Examples:
      gems memory list
      gems memory list --kind lesson --json
    """
    _show_memories(runner, runner.query(lambda gems: gems.memory.listed(limit, generator, kind)))


@command({0: "searched, even if nothing was found"})
def search(
    runner: Runner,
    text: Annotated[str, argument("TEXT", "Search text.")],
    limit: Limit = 10,
    generator: Generator = None,
) -> None:
    """Find lessons and experiences similar to a text, most similar first.

    \b
    Example:
      gems memory search "five hearts below a circle"
    """
    _show_memories(runner, runner.query(lambda gems: gems.memory.search(text, limit, generator)))


@command({0: "shown", 2: "bad usage or configuration, or no such key"})
def show(runner: Runner, key: Annotated[str, argument("KEY", "Key from `gems memory list`.")]) -> None:
    """Show everything about one lesson or experience.

    \b
    Example:
      gems memory show 20260131-120000-4f2a9c:1
    """
    runner.show(runner.query(lambda gems: gems.memory.show(key)), _print_memory)


def _print_memory(found: Memory) -> None:
    typer.echo("\n".join(_memory_lines(found)))
    for name, value in found.value.items():
        if name not in ("text", "text_indexed", "generator", "record"):
            typer.echo(f"  {name}: {_format_value(value)}")


@command({0: "shown"})
def stats(runner: Runner) -> None:
    """Show the location, embedder, size and track record of the memory."""
    runner.show(runner.query(lambda gems: gems.memory.stats()), _print_stats)


def _print_stats(found: Stats) -> None:
    typer.echo(f"where: {found.where}\nembedder: {found.embedder}")
    for name, counts in (("experiences", found.experiences), ("lessons", found.lessons)):
        each = ", ".join(f"{count} about {generator}" for generator, count in counts.items())
        typer.echo(f"{name}: {sum(counts.values())}{f' ({each})' if each else ''}")
    record = found.record
    typer.echo(f"shown {record['shown']} times, helped {record['helped']}, did not help {record['hurt']}")
    for line in _measurement_lines(found):
        typer.echo(clean_text(line))
    typer.echo(f"waiting to be written: {found.pending}")
    for step in found.steps:
        after = f"with {step.kind} unmet" if step.action in ("draw", "redraw") else f"for {step.kind}"
        tried = f"better {step.improved} of {step.improved + step.not_improved}"
        typer.echo(clean_text(f"{step.generator}  {step.action} {after}  {tried}"))


def _measurement_lines(found: Stats) -> Iterator[str]:
    """Yield how good instruments, boxes and probabilities were, where that is known."""
    for instrument, kinds in found.instruments.items():
        for kind, tally in kinds.items():
            torn = tally["instrument"] + tally["judge"]
            told = f"{instrument}, {kind}: agreed with the judge {tally['agreed']} times"
            yield told + (f", was right {tally['instrument']} of {torn} times when not" if torn else "")
    for placed_by, of_kind in found.boxes.items():
        for kind, boxes in of_kind.items():
            yield f"boxes of {placed_by}, {kind}: {boxes['fixed']} of {pluralize(boxes['edits'], 'edit')} fixed it"
    for looks in found.probabilities:
        share = f"{looks['confirmed']} of {looks['looks']} confirmed by a later look"
        yield f"yes with a probability of {looks['least']:.0%} to {looks['most']:.0%}: {share}"


def _show_memories(runner: Runner, found: list[Memory]) -> None:
    if found or runner.json:
        lines = [line for memory in found for line in _memory_lines(memory)]
        memories = {"memories": [memory.model_dump() for memory in found]}
        runner.show(memories, lambda _: typer.echo("\n".join(lines)))
    else:
        typer.echo("No lessons or experiences found.", err=True)


def _memory_lines(memory: Memory) -> list[str]:
    record = memory.value["record"]
    tried = record["helped"] + record["hurt"]
    outcome = f"helped {record['helped']} of {tried}" if tried else "not tried"
    similarity = f"  {memory.similarity:.2f}" if memory.similarity is not None else ""
    return [
        clean_text(f"{memory.key}  {memory.kind}  {memory.generator}  {outcome}{similarity}"),
        f"  {one_line(memory.value['text'])}",
    ]


def _format_value(value: object) -> str:
    if isinstance(value, list):
        return one_line("; ".join(_format_value(item) for item in value) or "none")
    if isinstance(value, dict):
        return one_line(str(value.get("question", value)))
    return one_line(str(value))


@command({0: "deleted, or --dry-run", 1: "not confirmed, or failure"})
def forget(
    runner: Runner,
    run: Annotated[str | None, option("RUN", "Only those of this run.")] = None,
    older_than: Annotated[str | None, option("AGE", "Only those older than this, e.g. 12h, 30d, 8w.")] = None,
    matching: Annotated[str | None, option("TEXT", "Only those with TEXT in prompt or text, ignoring case.")] = None,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
) -> None:
    """Delete experiences, and every lesson derived from one of them.

    Conditions are combined with AND. The runs themselves stay; `gems delete` deletes those.

    \b
    Examples:
      gems memory forget --run 20260131-120000-4f2a9c
      gems memory forget --older-than 30d --matching cat --yes
    """
    from gems.options import parse_duration

    before = None if older_than is None else datetime.now(UTC) - parse_duration(older_than)
    runner.delete(
        lambda gems, found: gems.memory.forget(run=run, older_than=before, matching=matching, dry_run=found is None),
        _describe_forgotten,
        is_empty=lambda found: not found.experiences + found.lessons + found.measurements + found.pending,
        yes=yes,
        dry_run=dry_run,
    )


def _describe_forgotten(found: Forgotten) -> str:
    counts = f"{pluralize(found.experiences, 'experience')}, {pluralize(found.lessons, 'lesson')}"
    if found.measurements:
        counts += f", {pluralize(found.measurements, 'measurement')}"
    return f"{counts} to delete{f'; {found.pending} waiting to be written' if found.pending else ''}"


@command({0: "rebuilt, or --dry-run", 1: "not confirmed, or failure"})
def rebuild(
    runner: Runner,
    yes: options.Yes = False,
    dry_run: Annotated[bool, flag("--dry-run", "Only report what the runs contain.")] = False,
) -> None:
    """Rebuild a damaged or lost experience store from all runs.

    The old folder is renamed; on a Chroma server the collections of GEMS are deleted. Track records are
    restored, and so are deleted experiences of existing runs. Run `gems memory consolidate` afterwards to
    derive lessons again, and repeat any imports.

    \b
    Examples:
      gems memory rebuild
      gems memory rebuild --dry-run --json
    """
    if not dry_run:
        runner.confirm("Replace the experience store with one rebuilt from all runs?", yes=yes)
    done = runner.query(lambda gems: gems.rebuild_memory(runner.progress("run"), dry_run=dry_run))
    for run in done.unreadable:
        typer.echo(f"warning: run {run} cannot be read", err=True)
    counts = f"{pluralize(done.experiences, 'experience')} of {pluralize(done.runs, 'run')}"
    runner.show(done, lambda _: typer.echo(counts))
    if done.aside and not runner.json:
        typer.echo(f"The old store was moved to {done.aside}.", err=True)


@command({0: "written"}, json="Print a JSON summary; requires --out.")
def export(
    runner: Runner,
    out: Annotated[Path | None, option("FILE", "Output file. Default: standard output.", "--out", "-o")] = None,
) -> None:
    """Export all lessons and experiences as JSON Lines.

    \b
    Examples:
      gems memory export > memory.jsonl
      gems memory export --out memory.jsonl
    """
    from gems.files.shared import write_atomically
    from gems.memory.sqlite import storage_error

    if runner.json and out is None:
        raise OptionError("--json requires an output file.", hint="Pass --out FILE.")

    async def export_lines(gems: Gems) -> list[str]:
        return [line async for line in gems.memory.export()]

    lines = runner.query(export_lines)
    text = "".join(f"{line}\n" for line in lines)
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        write_atomically(out, text.encode())
    except OSError as error:
        raise storage_error(error, out) from error
    written = f"{pluralize(len(lines), 'line')} written to {out}"
    runner.show({"path": str(out), "lines": len(lines)}, lambda _: typer.echo(written, err=True))


@command({0: "all lines were imported", 1: "some lines were invalid, or failure"})
def import_(
    runner: Runner, source: Annotated[str, argument("FILE", "JSON Lines file; - reads standard input.")]
) -> int:
    """Import an export. Importing it twice changes nothing.

    Invalid lines are reported by number; all others are imported.

    \b
    Examples:
      gems memory import memory.jsonl
      gems memory import - < memory.jsonl
    """
    lines = _read_lines(source)
    done = runner.query(lambda gems: gems.memory.import_lines(lines))
    for number, fault in done.faults:
        typer.echo(f"line {number}: {one_line(fault, 200)}", err=True)
    counts = f"{done.added} added, {done.updated} updated, {done.unchanged} unchanged"
    runner.show(done, lambda _: typer.echo(counts))
    return FAILED if done.faults else MET


def _read_lines(source: str) -> list[Any]:
    if source == "-":
        return sys.stdin.buffer.read().split(b"\n")
    try:
        return Path(source).read_bytes().split(b"\n")
    except OSError as error:
        raise OptionError(
            f"Cannot read {source}: {error.strerror}.", hint="Pass a file from `gems memory export`."
        ) from None


@command({0: "done", 130: "interrupted; finished lessons are kept"})
def consolidate(
    runner: Runner,
    chat: options.Chat = None,
    no_model: Annotated[
        bool, flag("--no-model", "Use the most central experience of each cluster as its lesson.")
    ] = False,
) -> None:
    """Derive a lesson from each group of similar experiences.

    The reflector's chat model writes the lessons. Groups without new experiences are skipped. Runs are shown
    lessons before experiences.

    \b
    Examples:
      gems memory consolidate
      gems memory consolidate --no-model --json
    """
    settings = None if no_model else options.Models(chat=chat).settings()
    done = runner.query(
        lambda gems: gems.memory.consolidate(runner.progress("cluster"), use_model=not no_model), settings
    )
    for reason in dict.fromkeys(done.unwritten):
        typer.echo(f"warning: used the most central experience as a lesson: {one_line(reason)}", err=True)
    counts = f"{pluralize(done.lessons, 'lesson')} from {pluralize(done.experiences, 'experience')}"
    runner.show(done, lambda _: typer.echo(f"{counts}: {done.added} added, {done.removed} removed"))


@command({0: "done, even if nothing had to be re-embedded", 130: "interrupted; run the command again to start over"})
def reindex(runner: Runner) -> None:
    """Re-embed items of another embedder after GEMS_EMBEDDER was changed."""
    from gems.apps.cli.schemas import Reindexed

    async def reindex_memory(gems: Gems) -> Reindexed:
        count = await gems.memory.reindex(lambda done: typer.echo(f"{done} done", err=True))
        return Reindexed(items=count, embedder=(await gems.memory.stats()).embedder)

    found = runner.query(reindex_memory)
    text = f"{pluralize(found.items, 'item')} re-embedded with {found.embedder}"
    runner.show(found, lambda _: typer.echo(text))


memory = command_group(
    "memory",
    "Lessons and experiences that runs share.",
    {
        "list": list_,
        "search": search,
        "show": show,
        "stats": stats,
        "consolidate": consolidate,
        "forget": forget,
        "export": export,
        "import": import_,
        "reindex": reindex,
        "rebuild": rebuild,
    },
)
