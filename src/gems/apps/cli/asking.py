"""Ask before something is taken away."""

from __future__ import annotations

import sys

import typer

from gems.errors import OptionError


def agreed(question: str, *, yes: bool, as_json: bool) -> bool:
    """Whether the user says yes; no where standard input has ended.

    Raises:
        OptionError: JSON is expected, so that nobody can be asked.
    """
    if yes:
        return True
    if as_json:
        raise OptionError("With --json nobody is asked.", hint="Say --yes, or --dry-run to look only.")
    # Not Typer's own question, of which a part goes to standard output.
    typer.echo(f"{question} [y/N] ", err=True, nl=False)
    answer = sys.stdin.readline().strip().lower()
    if answer not in ("y", "yes"):
        typer.echo("Nothing was changed.", err=True)
        return False
    return True
