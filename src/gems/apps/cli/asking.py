"""Confirmation of destructive commands."""

from __future__ import annotations

import sys

import typer

from gems.errors import OptionError


def confirm(question: str, *, yes: bool, as_json: bool) -> bool:
    """Ask for confirmation on standard error; the end of standard input means no."""
    if yes:
        return True
    if as_json:
        raise OptionError("Cannot ask for confirmation with --json.", hint="Pass --yes, or --dry-run.")
    # Not typer.confirm: it prints part of the question to standard output.
    typer.echo(f"{question} [y/N] ", err=True, nl=False)
    answer = sys.stdin.readline().strip().lower()
    if answer not in ("y", "yes"):
        typer.echo("Nothing was changed.", err=True)
        return False
    return True
