"""Asyncio runner, signals, logging."""

from __future__ import annotations

import asyncio
import logging
import shlex
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast, get_args

from rich.console import Console
from typing_extensions import Unpack

from gems.apps.cli.display import Display, LiveDisplay, Plain, Silent
from gems.apps.cli.errors import Interrupted
from gems.apps.cli.options import Models, View
from gems.apps.run_view import RunView
from gems.apps.text import one_line
from gems.errors import OptionError, RunNotFoundError
from gems.evals.engines import EngineConfig, EngineName
from gems.events import Event, wait_for_result
from gems.graphs.loop import GraphBuilder, build_graph
from gems.options import RunArguments, Target
from gems.results import RunResult
from gems.service import Gems
from gems.settings import ChatSettings, GeneratorSettings, Settings, load_settings, with_models

T = TypeVar("T")
# Warnings of the loop arrive as events; these loggers have no other channel.
_SHOWN_LOGGERS = (
    "gems.models",
    "gems.service",
    "gems.runs.executor",
    "gems.skills",
    "gems.observability.opentelemetry",
)


def start_run(prompt: str, models: Models, view: View, **arguments: Unpack[RunArguments]) -> RunResult:
    """Execute a new run and show its progress; raise Interrupted on Ctrl-C or SIGTERM."""

    async def coroutine() -> RunResult:
        async with Gems(settings_with(models)) as gems:
            story = RunView(prompt=prompt, path_of=gems.resources.images.path)
            return await _show_events(gems.stream(prompt, **arguments), story, view)

    return run_async(coroutine())


def resume_run(
    name: str, models: Models, view: View, answer: str | None = None, **target: Unpack[Target]
) -> RunResult:
    """Resume a run and show its progress."""

    async def coroutine() -> RunResult:
        async with Gems(settings_with(models)) as gems:
            run_id = await resolve_run_id(gems, name)
            known = await gems.show(run_id)
            story = RunView.so_far(known, gems.resources.images.path)
            return await _show_events(gems.stream_resume(run_id, answer, **target), story, view)

    return run_async(coroutine())


def fork_run(
    name: str, number: int, prompt: str | None, models: Models, view: View, **arguments: Unpack[RunArguments]
) -> RunResult:
    """Fork a run and show its progress."""

    async def coroutine() -> RunResult:
        async with Gems(settings_with(models)) as gems:
            run_id = await resolve_run_id(gems, name)
            known = await gems.show(run_id)
            shared = {
                "rounds": known.rounds[:number],
                "experiences": known.experiences[:number],
                "run_id": "",
            }
            story = RunView.so_far(known.model_copy(update=shared), gems.resources.images.path)
            events = gems.stream_fork(run_id, number, prompt, **arguments)
            return await _show_events(events, story, view, f"forked from {run_id} after round {number}")

    return run_async(coroutine())


def run_query(query: Callable[[Gems], Awaitable[T]]) -> T:
    """Run a query on the stores, which needs no model, so unusable ones do not matter."""
    unneeded = {name: ChatSettings() for name in ("chat", "planner", "judge", "reflector")}
    return run_with_chat(load_settings().model_copy(update=unneeded), query)


def run_with_chat(settings: Settings, task: Callable[[Gems], Awaitable[T]]) -> T:
    """Run a task that needs chat models but no generator, so an unusable one does not matter."""

    async def coroutine() -> T:
        async with Gems(settings.model_copy(update={"generator": GeneratorSettings()})) as gems:
            return await task(gems)

    return run_async(coroutine())


def settings_with(models: Models) -> Settings:
    """Load the settings, with the models of the command."""
    return with_models(load_settings(), chat=models.chat, judge=models.judge, generator=models.generator)


def with_address(settings: Settings, host: str | None, port: int | None) -> Settings:
    """Return the settings with the address of a command."""
    named = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    return settings.model_copy(update={"serve": settings.serve.model_copy(update=named)})


async def resolve_run_id(gems: Gems, name: str) -> str:
    """Return the run id; `last` is the newest run."""
    if name != "last":
        return name
    newest = await gems.runs(1)
    if not newest:
        raise RunNotFoundError(
            f"There are no runs in {gems.settings.home}.", hint="Start one with `gems run`."
        )
    return newest[0]["run_id"]


def run_async(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine; raise Interrupted on Ctrl-C or SIGTERM, after it has been cancelled."""

    async def cancellable() -> T:
        task = asyncio.current_task()
        # Unsupported on Windows and outside of the main thread. asyncio handles Ctrl-C itself.
        with suppress(NotImplementedError, RuntimeError, ValueError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # type: ignore[union-attr]
        return await coroutine

    try:
        return asyncio.run(cancellable())
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise Interrupted from None


@contextmanager
def mute_node_warnings(*, debug: bool) -> Iterator[None]:
    """Mute warnings of nodes, which are in the result, unless with --debug."""
    logger = logging.getLogger("gems.nodes.context")
    kept = logger.level
    if not debug:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(kept)


async def _show_events(
    events: AsyncGenerator[Event], story: RunView, view: View, note: str = ""
) -> RunResult:
    try:
        with _display(story, view) as display, _Logs(display, view):
            if note:
                display.note(note)

            async def show(event: Event) -> None:
                story.take(event)
                display.tell(event, story)

            return await wait_for_result(events, show)
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise Interrupted(story.run_id) from None


def _display(story: RunView, view: View) -> Display:
    if view.quiet:
        return Silent()
    # Logs would break a live table.
    if view.debug or not sys.stderr.isatty():
        return Plain()
    console = Console(stderr=True, highlight=False)
    return LiveDisplay(console, story) if console.is_terminal and not console.is_dumb_terminal else Plain()


class _Logs(logging.Handler):
    """Context manager that shows warnings of model clients and the service; all logs with --debug."""

    def __init__(self, display: Display, view: View) -> None:
        super().__init__(logging.DEBUG if view.debug else logging.WARNING)
        self._display, self._view = display, view
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
        if self._view.debug or record.name.startswith(_SHOWN_LOGGERS):
            text = self.format(record) if self._view.debug else one_line(record.getMessage())
            self._display.note(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Options that say where and how jobs are executed."""

    out: str
    engine: str = "local"
    concurrency: int = 4
    workers: int | None = None
    generator_actors: int | None = None
    budget_usd: float | None = None
    retries: int = 1

    @property
    def engine_name(self) -> EngineName:
        """The engine, validated."""
        if self.engine not in get_args(EngineName):
            raise OptionError(f"Unknown engine: {self.engine!r}.", hint="Use local or ray.")
        return cast("EngineName", self.engine)

    def workplace(self, settings: Settings, graph: GraphBuilder = build_graph) -> EngineConfig:
        """Return the configuration of the engine."""
        return EngineConfig(
            settings=settings,
            url=self.out,
            concurrency=self.concurrency,
            workers=self.workers,
            generator_actors=self.generator_actors,
            graph=graph,
        )


def run_resumable(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine; an interruption names the current command line as the one that resumes."""
    try:
        return run_async(coroutine)
    except Interrupted:
        raise Interrupted(command=shlex.join(["gems", *sys.argv[1:]])) from None
