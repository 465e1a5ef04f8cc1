"""Commands carried out by the service, interruptible at any moment."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Any, TypeVar

from rich.console import Console
from typing_extensions import Unpack

from gems.apps.cli.display import Display, Plain, Silent
from gems.apps.cli.errors import Interrupted
from gems.apps.cli.live import LiveDisplay
from gems.apps.cli.options import Models, View
from gems.apps.cli.story import Story
from gems.apps.cli.text import one_line
from gems.arguments import RunArguments, Target
from gems.errors import InternalError, RunNotFoundError
from gems.events import Event, Finished
from gems.results import RunResult
from gems.service import Gems
from gems.settings import ChatSettings, GeneratorSettings, Settings, load_settings, with_models

T = TypeVar("T")
# What the loop itself warns about comes as an event; these have no other way to be heard.
_HEARD = (
    "gems.models",
    "gems.service",
    "gems.runs.executor",
    "gems.skills",
    "gems.observability.opentelemetry",
)


def begun(prompt: str, models: Models, view: View, **arguments: Unpack[RunArguments]) -> RunResult:
    """Carry out a new run and show how it goes.

    Raises:
        Interrupted: by Ctrl-C or SIGTERM; what was done is kept.
        GemsError: see `Gems.run`.
    """

    async def doing() -> RunResult:
        async with Gems(settings_with(models)) as gems:
            story = Story(prompt=prompt, path_of=gems.resources.images.path)
            return await _followed(gems.stream(prompt, **arguments), story, view)

    return interruptibly(doing())


def resumed(
    name: str, models: Models, view: View, answer: str | None = None, **target: Unpack[Target]
) -> RunResult:
    """Go on with a run and show how it goes; see `begun`."""

    async def doing() -> RunResult:
        async with Gems(settings_with(models)) as gems:
            run_id = await run_named(gems, name)
            known = await gems.show(run_id)
            story = Story.so_far(known, gems.resources.images.path)
            return await _followed(gems.stream_resume(run_id, answer, **target), story, view)

    return interruptibly(doing())


def forked(
    name: str, number: int, prompt: str | None, models: Models, view: View, **arguments: Unpack[RunArguments]
) -> RunResult:
    """Carry out a fork and show how it goes; see `begun`."""

    async def doing() -> RunResult:
        async with Gems(settings_with(models)) as gems:
            run_id = await run_named(gems, name)
            known = await gems.show(run_id)
            shared = {
                "rounds": known.rounds[:number],
                "experiences": known.experiences[:number],
                "run_id": "",
            }
            story = Story.so_far(known.model_copy(update=shared), gems.resources.images.path)
            events = gems.stream_fork(run_id, number, prompt, **arguments)
            return await _followed(events, story, view, f"forked from {run_id} after round {number}")

    return interruptibly(doing())


def looked_up(looking: Callable[[Gems], Awaitable[T]]) -> T:
    """What `looking` finds out from the stores.

    No model is needed for that, so one that is not usable stands in nobody's way.
    """
    unneeded = {name: ChatSettings() for name in ("chat", "planner", "judge", "reflector")}
    return asked(load_settings().model_copy(update=unneeded), looking)


def asked(settings: Settings, asking: Callable[[Gems], Awaitable[T]]) -> T:
    """What `asking` finds out with the help of chat models.

    No generator is needed for that, so one that is not usable stands in nobody's way.
    """

    async def doing() -> T:
        async with Gems(settings.model_copy(update={"generator": GeneratorSettings()})) as gems:
            return await asking(gems)

    return interruptibly(doing())


def settings_with(models: Models) -> Settings:
    """The settings of the environment with the models that the command names."""
    return with_models(load_settings(), chat=models.chat, judge=models.judge, generator=models.generator)


def listening_at(settings: Settings, host: str | None, port: int | None) -> Settings:
    """The settings with the address that a command names."""
    named = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    return settings.model_copy(update={"serve": settings.serve.model_copy(update=named)})


async def run_named(gems: Gems, name: str) -> str:
    """The id of the run that `name` means; `last` is the newest one.

    Raises:
        RunNotFoundError: there is no run at all.
    """
    if name != "last":
        return name
    newest = await gems.runs(1)
    if not newest:
        raise RunNotFoundError(
            f"There is no run in {gems.settings.home} yet.", hint="`gems run` makes the first one."
        )
    return newest[0]["run_id"]


def interruptibly(doing: Coroutine[Any, Any, T]) -> T:
    """Carry out `doing`; Ctrl-C and SIGTERM end it cleanly.

    Raises:
        Interrupted: by one of them.
    """

    async def terminable() -> T:
        task = asyncio.current_task()
        # Not on Windows, and not outside of the main thread. Ctrl-C is asyncio's own business.
        with suppress(NotImplementedError, RuntimeError, ValueError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # type: ignore[union-attr]
        return await doing

    try:
        return asyncio.run(terminable())
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise Interrupted from None


@contextmanager
def told_once(*, debug: bool) -> Iterator[None]:
    """What nodes warn about is in the result; the log repeats it with --debug only."""
    logger = logging.getLogger("gems.nodes.context")
    kept = logger.level
    if not debug:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(kept)


async def _followed(events: AsyncGenerator[Event], story: Story, view: View, note: str = "") -> RunResult:
    try:
        with _display(story, view) as display, _Logs(display, view):
            if note:
                display.note(note)
            async with aclosing(events):
                async for event in events:
                    story.take(event)
                    display.tell(event, story)
                    if isinstance(event, Finished):
                        return event.result
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise Interrupted(story.run_id) from None
    raise InternalError("A run ended without a result.")


def _display(story: Story, view: View) -> Display:
    if view.quiet:
        return Silent()
    # Logs would tear a live table apart.
    if view.debug or not sys.stderr.isatty():
        return Plain()
    console = Console(stderr=True, highlight=False)
    return LiveDisplay(console, story) if console.is_terminal and not console.is_dumb_terminal else Plain()


class _Logs(logging.Handler):
    """Shows what the models' clients and the service warn about; with --debug everything.

    Use it as a context manager.
    """

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
        if self._view.debug or record.name.startswith(_HEARD):
            text = self.format(record) if self._view.debug else one_line(record.getMessage())
            self._display.note(text)
