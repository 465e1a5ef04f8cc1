"""Shared options."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


def path(text: str) -> Path:
    """Parse a path; reject an empty one, e.g. from an unset shell variable."""
    if not str(text).strip():
        raise typer.BadParameter("the path is empty")
    return Path(text)


def shown_spec(spec: str) -> str:
    """Strip the query of a model spec, which may hold a secret."""
    return spec.partition("?")[0]


RunId = Annotated[str, typer.Argument(metavar="RUN", help="Run id, or last.")]
Chat = Annotated[
    str | None,
    typer.Option(metavar="SPEC", help="Chat model: blocks or openai:MODEL@BASE_URL. Default: from settings."),
]
Judge = Annotated[
    str | None,
    typer.Option(metavar="SPEC", help="Chat model that judges. Default: the chat model."),
]
Generator = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC",
        help="Image generator: blocks, diffusers:NAME_OR_DIR, openai:MODEL@BASE_URL or http:URL. Default: "
        "from settings.",
    ),
]
Host = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Address to listen on. Default: 127.0.0.1.")
]
Port = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=0, max=65535, help="Port to listen on; 0 selects a free one. Default: 8765."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        parser=path,
        metavar="PATH",
        help="PNG file or folder for the image. Default: GEMS_HOME/outputs.",
    ),
]
NoMetadata = Annotated[
    bool, typer.Option("--no-metadata", help="Do not write prompt and options into the PNG.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object; see docs/json.md.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only report what would be deleted.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Hide progress; print only the path.")]
Debug = Annotated[
    bool, typer.Option("--debug", envvar="GEMS_DEBUG", help="Show logs and the traceback of an error.")
]


@dataclass(frozen=True, slots=True)
class Models:
    """Model specs and output options of a command, which resuming a run must repeat."""

    chat: str | None = None
    judge: str | None = None
    generator: str | None = None
    out: Path | None = None
    no_metadata: bool = False

    def resume_command(self, run_id: str) -> str:
        """Return the command that resumes a run with the same options, without secrets."""
        out = str(self.out) if self.out is not None else None
        specs = (("--chat", self.chat), ("--judge", self.judge), ("--generator", self.generator))
        named = [(name, spec and shown_spec(spec)) for name, spec in specs] + [("--out", out)]
        given = [word for name, value in named if value is not None for word in (name, value)]
        return shlex.join(["gems", "resume", run_id, *given, *["--no-metadata"] * self.no_metadata])


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Output options of a command."""

    json: bool = False
    quiet: bool = False
    debug: bool = False


EvalOut = Annotated[
    str,
    typer.Option(
        metavar="URL",
        help="Output folder: a path or an fsspec URL, e.g. s3://bucket/folder.",
    ),
]
Concurrency = Annotated[
    int,
    typer.Option(
        "--concurrency", "-j", metavar="N", min=1, max=1024, help="Maximum number of runs in parallel."
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        metavar="USD",
        min=0,
        help="Stop starting new work after spending this many US dollars, earlier calls included.",
    ),
]
Retries = Annotated[
    int, typer.Option(metavar="N", min=0, max=20, help="Retries for failed samples after the first pass.")
]
Engine = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="local runs in this process; ray on the cluster at RAY_ADDRESS, or on this machine if unset.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="With ray: number of processes that execute runs. Default: one per CPU."
    ),
]
GeneratorActors = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        help="With ray: number of generator processes, one GPU each if available; 0 generates in the "
        "workers. Default: one per GPU with Diffusers, else 0.",
    ),
]
EvalQuiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Hide progress; print only the output folder.")
]
