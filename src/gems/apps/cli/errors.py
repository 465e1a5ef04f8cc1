"""What went wrong, told: what it is, whose fault it is, what to do, and how to go on."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

import typer

from gems.apps.cli.text import clean
from gems.errors import GemsError

MET, FAILED, USAGE, BEST_EFFORT, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes."""
_WHOSE = {
    "request": "the request",
    "configuration": "the configuration",
    "provider": "the model's endpoint",
    "machine": "this machine",
    "nobody": "nobody's",
    "gems": "GEMS itself",
}


class Interrupted(Exception):  # noqa: N818 - nothing is wrong
    """Somebody pressed Ctrl-C or ended the process."""

    def __init__(self, run_id: str = "", command: str = "") -> None:
        super().__init__("Interrupted.")
        self.run_id, self.command = run_id, command


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What is told about an error; the fields are those of the JSON object."""

    type: str
    message: str
    fault: str
    hint: str = ""
    run_id: str = ""


@contextmanager
def reported(
    *, as_json: bool = False, debug: bool = False, resume_command: Callable[[str], str] | None = None
) -> Iterator[None]:
    """Tell about whatever goes wrong inside, and exit with its code.

    Args:
        as_json: Whether a JSON object is expected on standard output.
        debug: Whether the traceback is shown too.
        resume_command: What to type to go on with a run.
    """
    try:
        yield
    except typer.Exit:
        raise
    except BrokenPipeError:
        # Whoever read the output has gone; what is left in the buffer must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(FAILED) from None
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one place where every error is told
        if debug and not isinstance(error, Interrupted | KeyboardInterrupt):
            typer.echo(_traced(error), err=True, nl=False)
        failure, code = _failure(error, resume_command)
        told(failure, as_json=as_json, resume_command=resume_command)
        raise typer.Exit(code) from None


def told(failure: Failure, *, as_json: bool, resume_command: Callable[[str], str] | None = None) -> int:
    """Tell about a failure on standard error, and on standard output where JSON is expected.

    Returns the exit code of bad usage.
    """
    if as_json:
        typer.echo(json.dumps({"error": asdict(failure)}, indent=2))
    lines = [f"error: {failure.message}"] if failure.type != "Interrupted" else [failure.message]
    if failure.fault != "nobody":
        lines.append(f"fault: {_WHOSE[failure.fault]}")
    if failure.hint and not (failure.type == "Interrupted" and failure.run_id):
        lines.append(f"to do: {failure.hint}")
    if failure.run_id and resume_command is not None:
        lines.append(f"go on: {resume_command(failure.run_id)}")
    typer.echo(clean("\n".join(lines)), err=True)
    return USAGE


def usage_error(error: Exception) -> Failure:
    """What is told about a command line that Typer does not understand."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "gems"
    message = error.format_message()  # type: ignore[attr-defined]
    return Failure(
        type="UsageError", message=message, fault="request", hint=f"`{command} --help` says what is possible."
    )


def _traced(error: BaseException) -> str:
    """The traceback without secrets: errors of libraries quote servers, which may repeat the key they got."""
    return _without_secrets("".join(traceback.format_exception(error)))


def _without_secrets(text: str) -> str:
    from gems.observability.redaction import redact  # noqa: PLC0415 - only needed here
    from gems.secrecy import known_secrets  # noqa: PLC0415
    from gems.settings import load_settings  # noqa: PLC0415

    settings = None
    # Settings that cannot be read may be the very error that is told, and have given no key to anybody.
    with suppress(GemsError):
        settings = load_settings()
    return redact(text, *known_secrets(settings))


def _failure(error: BaseException, resume_command: Callable[[str], str] | None) -> tuple[Failure, int]:
    if isinstance(error, GemsError):
        kind = type(error).__name__
        failure = Failure(
            type=kind, message=error.message, fault=error.fault, hint=error.hint, run_id=error.run_id
        )
        return failure, error.exit_code
    if isinstance(error, Interrupted | KeyboardInterrupt):
        run_id = error.run_id if isinstance(error, Interrupted) else ""
        command = error.command if isinstance(error, Interrupted) else ""
        message = "Interrupted; everything so far is kept." if run_id or command else "Interrupted."
        hint = resume_command(run_id) if run_id and resume_command is not None else command
        return Failure(
            type="Interrupted", message=message, fault="nobody", hint=hint, run_id=run_id
        ), INTERRUPTED
    message = _without_secrets(f"{type(error).__name__}: {error}")
    hint = "This is a defect: please report it with what the same command says with --debug."
    return Failure(type="InternalError", message=message, fault="gems", hint=hint), FAILED
