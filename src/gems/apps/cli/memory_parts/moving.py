"""`gems memory export` and `import`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import FAILED, handle_errors
from gems.errors import OptionError

if TYPE_CHECKING:
    from gems.runs.memory_admin import ImportReport
    from gems.service import Gems


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
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy
        from gems.apps.cli.runner import run_query  # noqa: PLC0415
        from gems.apps.cli.text import pluralize  # noqa: PLC0415
        from gems.memory.file_store import write_atomically  # noqa: PLC0415
        from gems.memory.sqlite import storage_error  # noqa: PLC0415

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
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy
        from gems.apps.cli.runner import run_query  # noqa: PLC0415
        from gems.apps.cli.text import one_line  # noqa: PLC0415

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
