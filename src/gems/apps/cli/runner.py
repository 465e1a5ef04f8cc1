"""Runner of a command: asyncio, signals, logging, output."""

from __future__ import annotations

import asyncio
import logging
import shlex
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import typer
from rich.console import Console
from typing_extensions import Unpack

from gems.apps.cli.display import Display, LiveDisplay, Plain
from gems.apps.cli.errors import FAILED, Interrupted
from gems.apps.cli.options import Models, View
from gems.apps.cli.output import print_json, print_run
from gems.apps.cli.person import ask_decision
from gems.apps.run_view import RunView
from gems.apps.text import one_line, pluralize
from gems.errors import AnswerNeededError, OptionError, RunNotFoundError
from gems.events import Event, wait_for_result
from gems.options import Target
from gems.results import RunResult
from gems.service import Gems
from gems.settings import ChatSettings, GeneratorSettings, Settings, load_settings

T = TypeVar("T")
# Warnings of the loop arrive as events; these loggers have no other channel.
_SHOWN_LOGGERS = (
    "gems.models",
    "gems.service",
    "gems.runs.executor",
    "gems.skills",
    "gems.observability.opentelemetry",
)
_STEPS = 10
Events = AsyncGenerator[Event]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner(View):
    """Runs coroutines, asks and prints for a command, according to its output options."""

    resume_command: Callable[[str], str]

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine; raise Interrupted on Ctrl-C or SIGTERM, after it has been cancelled.

        Warnings of nodes, which are in results too, are shown with --debug only.
        """

        async def cancellable() -> T:
            task = asyncio.current_task()
            # Unsupported on Windows and outside of the main thread. asyncio handles Ctrl-C itself.
            with suppress(NotImplementedError, RuntimeError, ValueError):
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # type: ignore[union-attr]
            return await coroutine

        logger = logging.getLogger("gems.nodes.context")
        level = logger.level
        if not self.debug:
            logger.setLevel(logging.ERROR)
        try:
            return asyncio.run(cancellable())
        except (KeyboardInterrupt, asyncio.CancelledError):
            raise Interrupted from None
        finally:
            logger.setLevel(level)

    def run_resumable(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine; an interruption names the current command line as the one that resumes."""
        try:
            return self.run(coroutine)
        except Interrupted:
            raise Interrupted(command=shlex.join(["gems", *sys.argv[1:]])) from None

    def query(self, task: Callable[[Gems], Awaitable[T]], settings: Settings | None = None) -> T:
        """Run a task that needs no generator, and without `settings` no chat model either."""
        if settings is None:
            chats = {name: ChatSettings() for name in ("chat", "planner", "judge", "reflector")}
            settings = load_settings().model_copy(update={**chats, "offered_judges": {}})
        without_generator = settings.model_copy(update={"generator": GeneratorSettings(), "offered_generators": {}})

        async def coroutine() -> T:
            async with Gems(without_generator) as gems:
                return await task(gems)

        return self.run(coroutine())

    def execute(
        self, models: Models, start: Callable[[Gems], Awaitable[tuple[RunView, Events]]], **target: Unpack[Target]
    ) -> int:
        """Execute the run that `start` begins; print its progress and result, and return the exit code.

        A run that asks a person is asked on in the terminal; with --json its question is an error. `target` are the
        output arguments with which it goes on.
        """

        async def coroutine() -> RunResult:
            async with Gems(models.settings()) as gems:
                view, events = await start(gems)
                while True:
                    try:
                        return await self._show_events(gems, view, events)
                    except AnswerNeededError as error:
                        if self.json or not isinstance(error.question, dict):
                            raise
                        with self._interruptible(error.run_id):
                            decision = await ask_decision(error, gems.resources.images)
                        events = gems.stream_resume(error.run_id, decision, **target)

        result = self.run(coroutine())
        return print_run(result, self, self.resume_command(result.run_id))

    async def _show_events(self, gems: Gems, view: RunView, events: Events) -> RunResult:
        try:
            with self._display(gems, view) as display, _Logs(display, debug=self.debug):

                async def show(event: Event) -> None:
                    view.take(event)
                    display.tell(event, view)

                return await wait_for_result(events, show)
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise Interrupted(view.run_id) from None

    @staticmethod
    @contextmanager
    def _interruptible(run_id: str) -> Iterator[None]:
        """Name the run in an interruption."""
        try:
            yield
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise Interrupted(run_id) from None

    def show(self, value: T, render: Callable[[T], object]) -> None:
        """Print a value as JSON with --json, else call `render`, which prints it."""
        if self.json:
            print_json(value)
        else:
            render(value)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask for confirmation on standard error; exit with 1 unless it is given."""
        if yes:
            return
        if self.json:
            raise OptionError("Cannot ask for confirmation with --json.", hint="Pass --yes, or --dry-run.")
        # Not typer.confirm: it prints part of the question to standard output.
        typer.echo(f"{question} [y/N] ", err=True, nl=False)
        # The end of standard input means no.
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            typer.echo("Nothing was changed.", err=True)
            raise typer.Exit(FAILED)

    def delete(
        self,
        task: Callable[[Gems, T | None], Awaitable[T]],
        describe: Callable[[T], str],
        *,
        name: Callable[[T], str] = lambda _: "",
        is_empty: Callable[[T], bool] = lambda _: False,
        yes: bool,
        dry_run: bool,
    ) -> None:
        """Describe what `task` would delete, ask for confirmation, and delete it unless `dry_run`.

        `task` gets the result of its dry run, and None when it must do that dry run.
        """
        found = self.query(lambda gems: task(gems, None))
        if not self.json:
            typer.echo(describe(found), err=True)
        if not dry_run and not is_empty(found):
            self.confirm(f"Delete {name(found) or 'them'}?", yes=yes)
            found = self.query(lambda gems: task(gems, found))
            if not self.json:
                typer.echo(f"deleted {name(found)}".rstrip())
        if self.json:
            print_json(found)

    @staticmethod
    async def resolve_run_id(gems: Gems, name: str) -> str:
        """Return the run id; `last` is the newest run."""
        if name != "last":
            return name
        newest = await gems.runs(1)
        if not newest:
            raise RunNotFoundError(f"There are no runs in {gems.settings.home}.", hint="Start one with `gems run`.")
        return newest[0]["run_id"]

    @staticmethod
    def progress(noun: str) -> Callable[[int, int], None]:
        """Return a callback that prints counts: every one on a terminal, else about ten."""

        def print_count(done: int, total: int) -> None:
            step = 1 if sys.stderr.isatty() else max(1, total // _STEPS)
            if done % step == 0 or done == total:
                typer.echo(f"{done:,} of {pluralize(total, noun)}", err=True)

        return print_count

    def _display(self, gems: Gems, view: RunView) -> Display:
        if self.quiet:
            return Display()
        # Logs would break a live table.
        if self.debug or not sys.stderr.isatty():
            return Plain()
        console = Console(stderr=True, highlight=False)
        if not console.is_terminal or console.is_dumb_terminal:
            return Plain()
        return LiveDisplay(console, view, gems.resources.images.path)


class _Logs(logging.Handler):
    """Context manager that shows warnings of model clients and the service; all logs with --debug."""

    def __init__(self, display: Display, *, debug: bool) -> None:
        super().__init__(logging.DEBUG if debug else logging.WARNING)
        self._display, self._debug = display, debug
        self._logger = logging.getLogger("gems")

    def __enter__(self) -> None:
        self._kept = (self._logger.level, self._logger.propagate)
        self._logger.setLevel(self.level)
        self._logger.propagate = False
        self._logger.addHandler(self)

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.level, self._logger.propagate = self._kept

    def emit(self, record: logging.LogRecord) -> None:
        if self._debug or record.name.startswith(_SHOWN_LOGGERS):
            self._display.note(self.format(record) if self._debug else one_line(record.getMessage()))
