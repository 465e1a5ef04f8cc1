"""`gems memory list`, `search`, `show` and `stats`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import handle_errors

if TYPE_CHECKING:
    from gems.runs.memory_admin import Memory, Stats

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
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.runner import run_query  # noqa: PLC0415 - heavy

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
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.runner import run_query  # noqa: PLC0415 - heavy

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
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy
        from gems.apps.cli.runner import run_query  # noqa: PLC0415

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
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy
        from gems.apps.cli.runner import run_query  # noqa: PLC0415

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
    from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy

    if as_json:
        print_json({"memories": [memory.model_dump() for memory in found]})
    elif found:
        typer.echo("\n".join(line for memory in found for line in _memory_lines(memory)))
    else:
        typer.echo("No lessons or experiences found.", err=True)


def _memory_lines(memory: Memory) -> list[str]:
    from gems.apps.cli.errors import clean  # noqa: PLC0415 - heavy
    from gems.apps.cli.text import one_line  # noqa: PLC0415 - heavy

    record = memory.value["record"]
    tried = record["helped"] + record["hurt"]
    came = f"held {record['helped']} of {tried}" if tried else "not tried"
    alike = f"  {memory.similarity:.2f}" if memory.similarity is not None else ""
    return [
        clean(f"{memory.key}  {memory.kind}  {memory.generator}  {came}{alike}"),
        f"  {one_line(memory.value['text'])}",
    ]


def _format_value(value: object) -> str:
    from gems.apps.cli.text import one_line  # noqa: PLC0415 - heavy

    if isinstance(value, list):
        return one_line("; ".join(_format_value(item) for item in value) or "none")
    if isinstance(value, dict):
        return one_line(str(value.get("question", value)))
    return one_line(str(value))
