"""Background runs, independent of connections: clients can watch, leave and return."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from typing_extensions import Unpack

from gems.errors import GemsError, InternalError, RunDrainedError
from gems.events import Event, Finished, Started, wait_for_result
from gems.memory.run_filter import RunFilter
from gems.options import RunArguments, Target
from gems.results import RunResult, release_image
from gems.service import Gems
from gems.types import Decision

logger = logging.getLogger(__name__)

_POLL_S = 0.5
KEPT = 200
"""Finished runs whose events are kept."""


@dataclass(slots=True)
class _Channel:
    """Events of one run so far, and its watchers."""

    events: list[Event] = field(default_factory=list)
    step: Event | None = None
    """The newest inference step; there are too many to keep."""
    error: BaseException | None = None
    is_done: bool = False
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    name: str = field(default_factory=lambda: secrets.token_hex(4))
    task: asyncio.Task[None] | None = None

    async def publish(self, event: Event) -> None:
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


class RunManager:
    """Executes runs in background tasks; `listeners`, which must be fast, get every event and error."""

    def __init__(self, gems: Gems) -> None:
        self.gems = gems
        self.listeners: list[Callable[[Event | BaseException], None]] = []
        self._channels: OrderedDict[str, _Channel] = OrderedDict()
        self.is_draining = False
        """Whether the process is stopping, so that no runs are started."""

    async def start(self, prompt: str, **arguments: Unpack[RunArguments]) -> str:
        """Start a run and return its id; raise RunDrainedError if the process is stopping."""
        return await self._start(self.gems.stream(prompt, **arguments))

    async def repair(self, image: bytes | Path, prompt: str, **arguments: Unpack[RunArguments]) -> str:
        """Start a run that mends an image, and return its id."""
        return await self._start(self.gems.stream_repair(image, prompt, **arguments))

    async def resume(self, run_id: str, answer: str | Decision | None = None, **target: Unpack[Target]) -> str:
        """Resume a run, unless it is in progress already."""
        if self.is_working(run_id):
            return run_id
        return await self._start(self.gems.stream_resume(run_id, answer, **target))

    async def fork(
        self,
        run_id: str,
        number: int,
        prompt: str | None = None,
        *,
        decision: Decision | None = None,
        **arguments: Unpack[RunArguments],
    ) -> str:
        """Start a fork and return its id."""
        return await self._start(self.gems.stream_fork(run_id, number, prompt, decision=decision, **arguments))

    async def watch(self, run_id: str, after: int = 0) -> AsyncGenerator[Event]:
        """Yield the events of a run, past ones included; the last is `Finished`.

        Late watchers get only the newest inference step. A run of another process yields only its result, at its end.
        `after` skips this number of events, steps not counted. Raises the error of a run without an image.
        """
        channel = self._channels.get(run_id)
        if channel is None:
            await self._wait_elsewhere(run_id)
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

    async def _wait_elsewhere(self, run_id: str) -> None:
        """Wait until no other process works on a run; its events are not stored, but its status and lock are."""
        resources = self.gems.resources
        while (row := await resources.ledger.run(run_id)) and row["status"] == "running":
            if not await resources.locks.is_busy(run_id):
                return  # Its process was killed.
            await asyncio.sleep(_POLL_S)

    async def result(self, run_id: str) -> RunResult:
        """Wait for a run to end, and return its result; raises as `watch` does."""
        return await wait_for_result(self.watch(run_id))

    async def cancel(self, run_id: str) -> None:
        """Stop a run, keeping its best image."""
        await self.gems.cancel(run_id)

    def is_working(self, run_id: str) -> bool:
        """Return whether this process executes the run."""
        channel = self._channels.get(run_id)
        return channel is not None and not channel.is_done

    def working(self) -> list[str]:
        """List the runs that this process executes."""
        return [run_id for run_id in self._channels if self.is_working(run_id)]

    def stretch(self, run_id: str) -> str:
        """Return an id of the event sequence of `watch`, new after each resume; empty without events."""
        channel = self._channels.get(run_id)
        return channel.name if channel else ""

    def has_all_events(self, run_id: str, after: int) -> bool:
        """Return whether a client that has `after` events, with a final error, has all of them."""
        channel = self._channels.get(run_id)
        if channel is None:
            # The only one is the result.
            return after >= 1
        return channel.is_done and after >= len(channel.events) + (channel.error is not None)

    async def drain(self, patience_s: float = 20.0) -> None:
        """Stop all runs at their next step, for `resume_drained`; interrupt late ones after `patience_s`."""
        self.is_draining = True
        self.gems.drain()
        tasks = [channel.task for channel in self._channels.values() if channel.task is not None]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=patience_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def resume_drained(self) -> list[str]:
        """Resume the runs that an earlier process drained, and return their ids."""
        rows = await self.gems.runs(wanted=RunFilter(status="interrupted"))
        resumed = []
        for row in rows:
            if row["summary"].get("drained"):
                try:
                    resumed.append(await self.resume(row["run_id"]))
                except GemsError as error:
                    logger.warning("Cannot resume run %s: %s", row["run_id"], error)
        return resumed

    async def _start(self, events: AsyncGenerator[Event]) -> str:
        """Consume a stream in a background task, and return the run id once it is known."""
        if self.is_draining:
            raise RunDrainedError("The server is stopping and does not start new runs.")
        channel = _Channel()
        known: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        channel.task = asyncio.create_task(self._follow(events, channel, known))
        return await known

    async def _follow(self, events: AsyncGenerator[Event], channel: _Channel, known: asyncio.Future[str]) -> None:
        error: BaseException | None = None
        try:
            async with aclosing(events) as stream:
                async for event in stream:
                    if not known.done() and isinstance(event, Started | Finished):
                        self._register(event.run_id, channel)
                        known.set_result(event.run_id)
                    self._notify(event)
                    if isinstance(event, Finished):
                        # Hundreds of results are kept, and their images are files.
                        result = await asyncio.to_thread(release_image, event.result)
                        event = event.model_copy(update={"result": result})  # noqa: PLW2901
                    await channel.publish(event)
        except asyncio.CancelledError:
            error = RunDrainedError("The run was interrupted because its process stopped.")
        except Exception as fault:  # noqa: BLE001 - raised to all watchers
            error = fault
        if error is not None:
            self._notify(error)
        await channel.end(error)
        if not known.done():
            # The run never started, so only the caller gets the error.
            known.set_exception(error or InternalError("A run ended before it started."))
        elif error is not None and not isinstance(error, GemsError):
            logger.error("A run failed: %s", error)

    def _notify(self, news: Event | BaseException) -> None:
        for listener in self.listeners:
            listener(news)

    def _register(self, run_id: str, channel: _Channel) -> None:
        self._channels.pop(run_id, None)
        self._channels[run_id] = channel
        done = [name for name, kept in self._channels.items() if kept.is_done]
        for name in done[: max(0, len(self._channels) - KEPT)]:
            del self._channels[name]
