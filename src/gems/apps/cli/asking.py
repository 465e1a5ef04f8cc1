"""Ask before something is taken away."""

from __future__ import annotations

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
    try:
        answer = typer.confirm(question, err=True)
    except typer.Abort:
        answer = False
    if not answer:
        typer.echo("Nothing was changed.", err=True)
    return answer
