"""The frame of every command: shared options, help, errors and exit codes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, cast, get_type_hints

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import handle_errors
from gems.options import CHOICES, OPTIONS, Interface, RunOptions

if TYPE_CHECKING:
    from gems.apps.cli.runner import Runner

P = ParamSpec("P")
_ORDER = (0, 3, 2, 1, 130)
_EXIT_CODES = {2: "bad usage or configuration", 1: "failure"}
_JSON = "Print one JSON object; see docs/json.md."
_HEAD = "\n\n\b\nExit codes:\n"


def command(
    exit_codes: Mapping[int, str], *, json: str = _JSON, quiet: str = "", resumable: bool = False
) -> Callable[[Callable[Concatenate[Runner, P], int | None]], Callable[..., None]]:
    """Make a function a command of Typer.

    The function takes a Runner and returns its exit code, None for 0. A parameter whose type is a dataclass
    stands for one option per field, one of the type RunOptions for the options of runs that the interface of
    the function's name has. The help ends with `exit_codes`. --debug is added, and --json and --quiet with
    these help texts, unless empty. An error of a `resumable` command is printed with the command that resumes
    the run.
    """

    def decorate(function: Callable[Concatenate[Runner, P], int | None]) -> Callable[..., None]:
        def call(**given: Any) -> None:
            resume_command = partial(options.resume_command, given=given)
            shown = {name: given.get(name, False) for name in ("json", "quiet", "debug")}
            errors = {"resume_command": resume_command} if resumable else {}
            with handle_errors(as_json=shown["json"], debug=shown["debug"], **errors):
                from gems.apps.cli.runner import Runner

                runner = Runner(**shown, resume_command=resume_command)
                code = bound(runner, **{name: _argument(name, kind, given) for name, kind in kinds.items()})
                raise typer.Exit(code or 0)

        bound: Callable[..., int | None] = function
        hints = get_type_hints(function, {**function.__globals__, "Runner": Any}, include_extras=True)
        parameters: list[inspect.Parameter] = []
        kinds: dict[str, Any] = {}
        for name, parameter in list(inspect.signature(function).parameters.items())[1:]:
            kinds[name] = hints[name]
            if kinds[name] is RunOptions:
                parameters += options.run_options(cast("Interface", function.__name__))
            else:
                parameters += _options(name, hints[name], parameter.default)
        for name, flags, text in (("json", ("--json",), json), ("quiet", ("--quiet", "-q"), quiet)):
            if text:
                parameters.append(_option(name, Annotated[bool, typer.Option(*flags, help=text)], False))
        parameters.append(_option("debug", options.Debug, False))
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__name__, call.__module__ = function.__name__, function.__module__
        call.__doc__ = f"{inspect.getdoc(function)}{_HEAD}{_list_exit_codes(exit_codes)}"
        call.__annotations__ = {}
        return call

    return decorate


def command_group(name: str, text: str, commands: Mapping[str, Callable[..., None]]) -> typer.Typer:
    """Return a group of commands by name, which prints its help if none is named."""
    group = typer.Typer(name=name, rich_markup_mode=None, invoke_without_command=True)

    @group.callback(help=text)
    def print_help(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())

    for each, function in commands.items():
        group.command(each)(function)
    return group


def _options(name: str, kind: Any, default: object) -> Iterator[inspect.Parameter]:
    if not is_dataclass(kind):
        yield _option(name, kind, default)
        return
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        yield _option(field.name, hints[field.name], default)


def _option(name: str, kind: Any, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _argument(name: str, kind: Any, given: Mapping[str, Any]) -> Any:
    if is_dataclass(kind) and isinstance(kind, type):
        return kind(**{field.name: given[field.name] for field in fields(kind)})
    if kind is RunOptions:
        return {name: given[name] for name in OPTIONS if name in given and name not in CHOICES}
    return given[name]


def _list_exit_codes(exit_codes: Mapping[int, str]) -> str:
    texts = {**_EXIT_CODES, **exit_codes}
    width = max(len(str(code)) for code in texts)
    return "\n".join(f"  {code:<{width}}  {texts[code]}" for code in _ORDER if code in texts)
