"""The options that commands share, and the models that they name."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or last.")]
Chat = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC", help="Chat model: blocks or openai:MODEL@BASE_URL; the settings' by default."
    ),
]
Judge = Annotated[
    str | None,
    typer.Option(metavar="SPEC", help="Another chat model for judging."),
]
Generator = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC",
        help="Image generator: blocks, diffusers:NAME_OR_DIR, openai:MODEL@BASE_URL or http:URL; the "
        "settings' by default.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH", help="A .png file or a folder for the image; outputs in GEMS_HOME by default."
    ),
]
NoMetadata = Annotated[bool, typer.Option("--no-metadata", help="Leave out of the PNG what made it.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object; docs/json.md describes it.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress; print only the path.")]
Debug = Annotated[
    bool, typer.Option("--debug", envvar="GEMS_DEBUG", help="Show logs, and the traceback of an error.")
]


@dataclass(frozen=True, slots=True)
class Models:
    """The models that a command names in place of those of the settings."""

    chat: str | None = None
    judge: str | None = None
    generator: str | None = None

    def resume_command(self, run_id: str) -> str:
        """What to type to go on with a run: with the same models, or it would go on with others."""
        named = (("--chat", self.chat), ("--judge", self.judge), ("--generator", self.generator))
        given = [word for name, spec in named if spec is not None for word in (name, spec)]
        return shlex.join(["gems", "resume", run_id, *given])


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How a command shows what goes on: `json` and `quiet` as the options say, `debug` with all logs."""

    json: bool = False
    quiet: bool = False
    debug: bool = False
