"""Print errors with cause, hint and resume command, and map them to exit codes."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

import typer

from gems.apps.text import clean_text
from gems.errors import GemsError

MET, FAILED, USAGE, BEST_EFFORT, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes."""
_CAUSES = {
    "request": "invalid request",
    "configuration": "invalid configuration",
    "provider": "the model's endpoint",
    "machine": "this machine",
    "gems": "a bug in GEMS",
}


class Interrupted(Exception):  # noqa: N818 - nothing is wrong
    """Ctrl-C or SIGTERM."""

    def __init__(self, run_id: str = "", command: str = "") -> None:
        super().__init__("Interrupted.")
        self.run_id, self.command = run_id, command


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A reported error; the fields are those of the JSON object."""

    type: str
    message: str
    fault: str
    hint: str = ""
    run_id: str = ""


@contextmanager
def handle_errors(
    *, as_json: bool = False, debug: bool = False, resume_command: Callable[[str], str] | None = None
) -> Iterator[None]:
    """Print any error raised inside, with the command that resumes its run, and exit with its code."""
    try:
        yield
    except typer.Exit:
        raise
    except BrokenPipeError:
        # The reader of the output is gone; flushing the rest at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(FAILED) from None
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one place where every error is reported
        if debug and not isinstance(error, Interrupted | KeyboardInterrupt):
            typer.echo(_without_secrets("".join(traceback.format_exception(error))), err=True, nl=False)
        failure, code = _convert_error(error, resume_command)
        print_error(failure, as_json=as_json, resume_command=resume_command)
        raise typer.Exit(code) from None


def print_error(failure: Failure, *, as_json: bool, resume_command: Callable[[str], str] | None = None) -> int:
    """Print an error to standard error, and as JSON to standard output; return the exit code of bad usage."""
    if as_json:
        typer.echo(json.dumps({"error": asdict(failure)}, indent=2))
    lines = [f"error: {failure.message}"] if failure.type != "Interrupted" else [failure.message]
    if failure.fault != "nobody":
        lines.append(f"cause: {_CAUSES[failure.fault]}")
    if failure.hint and not (failure.type == "Interrupted" and failure.run_id):
        lines.append(f"hint: {failure.hint}")
    if failure.run_id and resume_command is not None:
        lines.append(f"resume with: {resume_command(failure.run_id)}")
    typer.echo(clean_text("\n".join(lines)), err=True)
    return USAGE


def usage_error(error: Exception) -> Failure:
    """Convert a usage error of Typer."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "gems"
    message, hint = error.format_message(), f"Run `{command} --help` for usage."  # type: ignore[attr-defined]
    return Failure(type="UsageError", message=message, fault="request", hint=hint)


def _without_secrets(text: str) -> str:
    """Remove secrets: servers may echo the key, and libraries quote servers."""
    from gems.observability.redaction import known_secrets, redact
    from gems.settings import load_settings

    settings = None
    # Unreadable settings may be the reported error itself; then no key was loaded.
    with suppress(GemsError):
        settings = load_settings()
    return redact(text, *known_secrets(settings))


def _convert_error(error: BaseException, resume_command: Callable[[str], str] | None) -> tuple[Failure, int]:
    name = type(error).__name__
    if isinstance(error, GemsError):
        named = {"fault": error.fault, "hint": error.hint, "run_id": error.run_id}
        return Failure(type=name, message=error.message, **named), error.exit_code
    if isinstance(error, Interrupted | KeyboardInterrupt):
        known = error if isinstance(error, Interrupted) else Interrupted()
        message = "Interrupted; progress is saved." if known.run_id or known.command else "Interrupted."
        hint = resume_command(known.run_id) if known.run_id and resume_command is not None else known.command
        failure = Failure(type="Interrupted", message=message, fault="nobody", hint=hint, run_id=known.run_id)
        return failure, INTERRUPTED
    message = _without_secrets(f"{name}: {error}")
    hint = "This is a bug. Please report it with the output of the same command with --debug."
    return Failure(type="InternalError", message=message, fault="gems", hint=hint), FAILED
