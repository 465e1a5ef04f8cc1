"""The options that commands share, and the models that they name."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


def path(text: str) -> Path:
    """A path, but not the current folder for an empty one, as an unset variable of a shell makes it."""
    if not str(text).strip():
        raise typer.BadParameter("the path is empty")
    return Path(text)


def shown_spec(spec: str) -> str:
    """A spec without its query, which may hold a secret."""
    return spec.partition("?")[0]


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
Host = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Where to listen; 127.0.0.1 by default.")]
Port = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, max=65535, help="8765 by default; 0 takes a free one."),
]
Out = Annotated[
    Path | None,
    typer.Option(
        parser=path,
        metavar="PATH",
        help="A .png file or a folder for the image; outputs in GEMS_HOME by default.",
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
    """What a command names in place of the settings, and a resumed run must be told again.

    Attributes:
        chat: Spec of the chat model.
        judge: Spec of the judge.
        generator: Spec of the generator.
        out: Where the result goes.
        no_metadata: Whether the PNG is to say nothing.
    """

    chat: str | None = None
    judge: str | None = None
    generator: str | None = None
    out: Path | None = None
    no_metadata: bool = False

    def resume_command(self, run_id: str) -> str:
        """What to type to go on with a run in the same way.

        An address is shown without its query, which may hold a secret.
        """
        out = str(self.out) if self.out is not None else None
        specs = (("--chat", self.chat), ("--judge", self.judge), ("--generator", self.generator))
        named = [(name, spec and shown_spec(spec)) for name, spec in specs] + [("--out", out)]
        given = [word for name, value in named if value is not None for word in (name, value)]
        return shlex.join(["gems", "resume", run_id, *given, *["--no-metadata"] * self.no_metadata])


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How a command shows what goes on: `json` and `quiet` as the options say, `debug` with all logs."""

    json: bool = False
    quiet: bool = False
    debug: bool = False
