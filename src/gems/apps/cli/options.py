"""Shared options."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gems.errors import OptionError
from gems.options import CHOICES, MAX_IMAGES, Interface, Option, options_of

if TYPE_CHECKING:
    from gems.settings import Settings


def path(text: str) -> Path:
    """Parse a path; reject an empty one, e.g. from an unset shell variable."""
    if not str(text).strip():
        raise typer.BadParameter("the path is empty")
    return Path(text)


def option(metavar: str, text: str, *names: str, **more: Any) -> Any:
    """Declare an option of a command."""
    return typer.Option(*names, metavar=metavar, help=text, **more)


def path_option(metavar: str, text: str, *names: str) -> Any:
    """Declare an option whose value is a path."""
    return option(metavar, text, *names, parser=path)


def flag(name: str, text: str, *names: str) -> Any:
    """Declare an option without a value."""
    return typer.Option(name, *names, help=text)


def argument(metavar: str, text: str, **more: Any) -> Any:
    """Declare a positional argument."""
    return typer.Argument(metavar=metavar, help=text, **more)


def shown_spec(spec: str) -> str:
    """Strip the query of a model spec, which may hold a secret."""
    return spec.partition("?")[0]


RunId = Annotated[str, argument("RUN", "Run id, or last.")]
Chat = Annotated[
    str | None,
    option("SPEC", "Chat model: blocks, openai:MODEL@BASE_URL or langchain:PROVIDER:MODEL. Default: from settings."),
]
Judge = Annotated[
    str | None, option("SPEC", "Chat model that judges, or the name of one on offer. Default: the chat model.")
]
Out = Annotated[Path | None, path_option("PATH", "PNG file or folder for the image. Default: GEMS_HOME/outputs.")]
Mask = Annotated[
    Path | None,
    path_option("FILE", "Image of the source's size, white or transparent where it may change. Nothing else changes."),
]
NoMetadata = Annotated[bool, flag("--no-metadata", "Do not write prompt and options into the PNG.")]
Yes = Annotated[bool, flag("--yes", "Do not ask for confirmation.", "-y")]
DryRun = Annotated[bool, flag("--dry-run", "Only report what would be deleted.")]
Debug = Annotated[bool, typer.Option("--debug", envvar="GEMS_DEBUG", help="Show logs and the traceback of an error.")]


def run_options(interface: Interface) -> Iterator[Parameter]:
    """Yield the parameters of a command for the options of runs."""
    for option in options_of(interface).values():
        if option.name in CHOICES:
            # Flags of `Models`.
            continue
        yield _flag(option) if option.type is bool else _parameter(option)


def _parameter(option: Option) -> Parameter:
    def parse(text: str) -> Any:
        try:
            return option.check(str(text) if option.choices else option.type(text))
        except (ValueError, OptionError):
            raise typer.BadParameter(f"{text!r}; it must be {option.expected}.") from None

    info = typer.Option(
        option.flag,
        metavar=option.metavar or ("N" if option.type is int else None),
        min=option.ge,
        max=None if option.maximum == MAX_IMAGES else option.maximum,
        parser=parse,
        help=option.description,
    )
    return Parameter(option.name, Parameter.KEYWORD_ONLY, default=None, annotation=option.annotate(info))


def _flag(option: Option) -> Parameter:
    """Return a flag without a value that sets the option to true; to false if it starts with `--no-`."""
    sets = not option.flag.startswith("--no-")
    text = option.help if sets else f"Do not {option.help[0].lower()}{option.help[1:]}"
    info = typer.Option(option.flag, callback=lambda is_given: sets if is_given else None, help=text)
    return Parameter(option.name, Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, info])


@dataclass(frozen=True, slots=True)
class Models:
    """Model specs of a command."""

    chat: Chat = None
    judge: Judge = None
    generator: Annotated[
        str | None,
        option(
            "SPEC",
            "Image generator: blocks, diffusers:NAME_OR_DIR, openai:MODEL@BASE_URL, openai-chat:MODEL@BASE_URL, "
            "comfyui:WORKFLOW.json@URL, a1111:URL or http:URL, or the name of one on offer. Default: from settings.",
        ),
    ] = None
    detector: Annotated[
        str | None,
        option(
            "SPEC",
            "Object detector that counts and locates what the judge is asked about: off, blocks, "
            "transformers:NAME_OR_DIR or http:URL. Default: from settings.",
        ),
    ] = None

    def settings(self) -> Settings:
        """Load the settings, with these models."""
        from gems.settings import load_settings, with_models

        given = {"chat": self.chat, "judge": self.judge, "generator": self.generator, "detector": self.detector}
        return with_models(load_settings(), **given)

    def unchosen(self) -> dict[str, str]:
        """Return the options of a run that give up its choice among models on offer for those named here."""
        return {name: "" for name in CHOICES if getattr(self, name) is not None}


@dataclass(frozen=True, slots=True)
class Address:
    """Address of a server."""

    host: Annotated[str | None, option("ADDRESS", "Address to listen on. Default: 127.0.0.1.")] = None
    port: Annotated[
        int | None, option("N", "Port to listen on; 0 selects a free one. Default: 8765.", min=0, max=65535)
    ] = None

    def in_settings(self, settings: Settings) -> Settings:
        """Return the settings with this address."""
        named = {name: value for name, value in asdict(self).items() if value is not None}
        return settings.model_copy(update={"serve": settings.serve.model_copy(update=named)})


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Output options of a command."""

    json: bool = False
    quiet: bool = False
    debug: bool = False


def resume_command(run_id: str, given: Mapping[str, Any]) -> str:
    """Return the command that resumes a run with the same models and output, without secrets."""
    words = ["gems", "resume", run_id]
    for name in ("chat", "judge", "generator", "out"):
        if given.get(name) is not None:
            words += [f"--{name}", str(given[name]) if name == "out" else shown_spec(given[name])]
    return shlex.join([*words, *["--no-metadata"] * bool(given.get("no_metadata"))])


EvalOut = Annotated[str, option("URL", "Output folder: a path or an fsspec URL, e.g. s3://bucket/folder.")]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Where and how jobs are executed."""

    concurrency: Annotated[
        int, option("N", "Maximum number of runs in parallel.", "--concurrency", "-j", min=1, max=1024)
    ] = 4
    budget_usd: Annotated[
        float | None,
        option("USD", "Stop starting new work after spending this many US dollars, earlier calls included.", min=0),
    ] = None
    retries: Annotated[int, option("N", "Retries for failed samples after the first pass.", min=0, max=20)] = 1
    engine: Annotated[
        str, option("NAME", "local: in this process; ray: on the cluster at RAY_ADDRESS, or on this machine if unset.")
    ] = "local"
    workers: Annotated[
        int | None, option("N", "With ray: number of processes that execute runs. Default: one per CPU.", min=1)
    ] = None
    generator_actors: Annotated[
        int | None,
        option(
            "N",
            "With ray: number of generator processes, one GPU each if available; 0 generates in the "
            "workers. Default: one per GPU with Diffusers, else 0.",
            min=0,
        ),
    ] = None
