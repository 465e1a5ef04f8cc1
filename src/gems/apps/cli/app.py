"""The Typer app. Commands import heavy modules when called, so that `gems --help` is fast."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from gems._version import __version__
from gems.apps.cli.batch import batch
from gems.apps.cli.doctor import doctor
from gems.apps.cli.errors import print_error, usage_error
from gems.apps.cli.evals import evals
from gems.apps.cli.evolve import evolve
from gems.apps.cli.export import export
from gems.apps.cli.keys import keys
from gems.apps.cli.memory import memory
from gems.apps.cli.run import fork, repair, resume, run, verify
from gems.apps.cli.runs import delete, gc, report, runs, show
from gems.apps.cli.serve import mcp, serve, web
from gems.apps.cli.setup import setup
from gems.apps.cli.skills import skills

# Plain help pages: they are pasted, searched and turned into docs/cli.md.
app = typer.Typer(
    name="gems",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)
for _command in (
    *(run, repair, resume, runs, show, verify, report, fork, delete, gc),
    *(batch, web, serve, mcp, setup, doctor),
):
    app.command()(_command)
for _group in (memory, skills, evals, export, evolve, keys):
    app.add_typer(_group)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"gems {__version__}")
        raise typer.Exit


@app.callback()
def _gems(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Generate images that match complex prompts: an agent loop around any text-to-image model.

    Without configuration the built-in simulated models are used; they need no key, GPU or download. `gems
    setup` finds and configures real models. Or select them with --chat and --generator, or with
    GEMS_CHAT__MODEL and GEMS_GENERATOR__MODEL in the environment or in .env.

    \b
    Example:
      gems run "three red circles above a blue striped square"
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    for stream in (sys.stdout, sys.stderr):
        # Print question marks instead of failing where the terminal cannot encode a character.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        code: Any = app(arguments, prog_name="gems", standalone_mode=False)
    except typer.Abort:
        code = 1
    except Exception as error:
        # Only Typer's usage errors, from whichever library; the commands report all others themselves.
        if not hasattr(error, "format_message"):
            raise
        code = print_error(usage_error(error), as_json="--json" in arguments)
    sys.exit(code if isinstance(code, int) else 0)
