"""Runs that live in the service and not in a connection: anybody may watch, leave, and come back.

async with Gems() as gems:
    hub = RunHub(gems)
    run_id = await hub.start("two green stars")
    async for event in hub.watch(run_id):
        print(event.type)
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from typing_extensions import Unpack

from gems.arguments import RunArguments, Target
from gems.errors import GemsError, InternalError, RunDrainedError
from gems.events import Event, Finished, Started
from gems.memory.run_filter import RunFilter
from gems.results import RunResult
from gems.service import Gems

logger = logging.getLogger(__name__)

KEPT = 200
"""Runs that came to their end and can still be watched from their beginning."""


@dataclass(slots=True)
class _Channel:
    """What one run has told so far, and who waits for more."""

    events: list[Event] = field(default_factory=list)
    step: Event | None = None
    """The newest inference step, which is not kept among the events: there are too many."""
    error: BaseException | None = None
    is_done: bool = False
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    name: str = field(default_factory=lambda: secrets.token_hex(4))
    task: asyncio.Task[None] | None = None

    async def tell(self, event: Event) -> None:
        async with self.changed:
            if event.type == "step":
                self.step = event
            else:
                self.events.append(event)
            self.changed.notify_all()

    async def end(self, error: BaseException | None) -> None:
        async with self.changed:
            self.error, self.is_done = error, True
            self.changed.notify_all()


class RunHub:
    """Carries runs out beside whoever asked for them.

    Args:
        gems: The opened service.

    Attributes:
        listeners: Told every event of every run, and the error that a run ends with; they must be quick.
    """

    def __init__(self, gems: Gems) -> None:
        self.gems = gems
        self.listeners: list[Callable[[Event | BaseException], None]] = []
        self._channels: OrderedDict[str, _Channel] = OrderedDict()
        self._draining = False

    async def start(self, prompt: str, **arguments: Unpack[RunArguments]) -> str:
        """Begin a run; it goes on whoever listens.

        Returns:
            Its id.

        Raises:
            RequestError: the prompt or an option is not usable; nothing was paid for.
            RunDrainedError: the process is being stopped.
        """
        return await self._begun(self.gems.stream(prompt, **arguments))

    async def resume(self, run_id: str, answer: str | None = None, **target: Unpack[Target]) -> str:
        """Go on with a run; nothing happens where it goes on already. See `Gems.resume`."""
        if self.is_working(run_id):
            return run_id
        return await self._begun(self.gems.stream_resume(run_id, answer, **target))

    async def fork(
        self, run_id: str, number: int, prompt: str | None = None, **arguments: Unpack[RunArguments]
    ) -> str:
        """Begin a fork; see `Gems.fork`."""
        return await self._begun(self.gems.stream_fork(run_id, number, prompt, **arguments))

    async def watch(self, run_id: str, after: int = 0) -> AsyncGenerator[Event]:
        """What a run tells, from its beginning in this process on; the last event is `Finished`.

        Of inference steps only the newest is told to who comes late. A run that this process does not know
        tells nothing but its result, where it has come to its end.

        Args:
            run_id: The run.
            after: So many events, steps not counted, are known already.

        Raises:
            RunNotFoundError: no run has this id.
            GemsError: the run ended before there was an image, or another process works on it.
        """
        channel = self._channels.get(run_id)
        if channel is None:
            yield Finished(run_id=run_id, result=await self.gems.show(run_id))
            return
        step = None
        while True:
            async with channel.changed:
                await channel.changed.wait_for(
                    lambda: channel.is_done or len(channel.events) > after or channel.step is not step  # noqa: B023
                )
                news = channel.events[after:]
                after += len(news)
                if channel.step is not step and channel.step is not None:
                    step = channel.step
                    news.append(step)
                is_done, error = channel.is_done, channel.error
            for event in news:
                yield event
            if is_done and after >= len(channel.events):
                if error is not None:
                    raise error
                return

    async def result(self, run_id: str) -> RunResult:
        """The result of a run, once it has come to its end; see `watch`."""
        async with aclosing(self.watch(run_id)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    return event.result
        raise InternalError("A run ended without a result.")

    async def cancel(self, run_id: str) -> None:
        """End a run with its best image so far; see `Gems.cancel`."""
        await self.gems.cancel(run_id)

    def is_working(self, run_id: str) -> bool:
        """Whether this process works on the run."""
        channel = self._channels.get(run_id)
        return channel is not None and not channel.is_done

    def working(self) -> list[str]:
        """The runs that this process works on."""
        return [run_id for run_id in self._channels if self.is_working(run_id)]

    @property
    def is_draining(self) -> bool:
        """Whether nothing new is begun any more."""
        return self._draining

    def stretch(self, run_id: str) -> str:
        """Names what `watch` tells: it begins anew when a run is resumed, and with another process.

        Empty where this process has done nothing for the run, or forgot it.
        """
        channel = self._channels.get(run_id)
        return channel.name if channel else ""

    def is_told(self, run_id: str, after: int) -> bool:
        """Whether who knows so many events, with the error that may have come last, knows everything."""
        channel = self._channels.get(run_id)
        if channel is None:
            return after >= 1
        return channel.is_done and after >= len(channel.events) + (channel.error is not None)

    async def drain(self, patience_s: float = 20.0) -> None:
        """Stop all runs, each at its next step, so that `resume_drained` goes on with them.

        Args:
            patience_s: Seconds after which what does not stop is interrupted where it is.
        """
        self._draining = True
        self.gems.drain()
        tasks = [channel.task for channel in self._channels.values() if channel.task is not None]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=patience_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def resume_drained(self) -> list[str]:
        """Go on with the runs that were stopped with an earlier process."""
        rows = await self.gems.runs(wanted=RunFilter(status="interrupted"))
        going_on = []
        for row in rows:
            if row["summary"].get("drained"):
                try:
                    going_on.append(await self.resume(row["run_id"]))
                except GemsError as error:
                    logger.warning("The run %s cannot go on: %s", row["run_id"], error)
        return going_on

    async def _begun(self, events: AsyncGenerator[Event]) -> str:
        """Follow a stream in a task of its own, from the moment when the run has an id."""
        if self._draining:
            raise RunDrainedError("This process is being stopped and begins nothing new.")
        channel = _Channel()
        known: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        channel.task = asyncio.create_task(self._follow(events, channel, known))
        return await known

    async def _follow(
        self, events: AsyncGenerator[Event], channel: _Channel, known: asyncio.Future[str]
    ) -> None:
        error: BaseException | None = None
        try:
            async with aclosing(events) as stream:
                async for event in stream:
                    if not known.done() and isinstance(event, Started | Finished):
                        self._register(event.run_id, channel)
                        known.set_result(event.run_id)
                    self._tell(event)
                    await channel.tell(event)
        except asyncio.CancelledError:
            error = RunDrainedError("The run was interrupted with its process.")
        except Exception as fault:  # noqa: BLE001 - told to everybody who watches
            error = fault
        if error is not None:
            self._tell(error)
        await channel.end(error)
        if not known.done():
            # Nothing was begun: whoever asked is told, and nobody else knows of it.
            known.set_exception(error or InternalError("A run ended before it began."))
        elif error is not None and not isinstance(error, GemsError):
            logger.error("A run failed: %s", error)

    def _tell(self, news: Event | BaseException) -> None:
        for listener in self.listeners:
            listener(news)

    def _register(self, run_id: str, channel: _Channel) -> None:
        self._channels.pop(run_id, None)
        self._channels[run_id] = channel
        done = [name for name, kept in self._channels.items() if kept.is_done]
        for name in done[: max(0, len(self._channels) - KEPT)]:
            del self._channels[name]
