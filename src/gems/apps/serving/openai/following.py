"""Wait for runs until the deadline of their response."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from gems.apps.server.dependencies import Service
from gems.apps.server.openai.errors import AnswerError
from gems.apps.server.openai.runs import StartedRuns
from gems.errors import DeadlineReachedError, GemsError, InternalError
from gems.events import Event, Finished
from gems.results import RunResult

BEAT_S = 15.0
"""Seconds of silence before a keep-alive, since proxies close idle connections."""


async def watch_until_due(service: Service, begun: StartedRuns, run_id: str) -> AsyncGenerator[Event | None]:
    """Yield the events of a run, ending with `Finished`; None as keep-alive.

    A run normally ends before the deadline. If it is late, its best image so far is used as the result, and
    the run continues in the background.

    Raises:
        AnswerError: the request's deadline was too short for an image.
        GemsError: the run ended without an image.
    """
    try:
        async with aclosing(_watch_until(service, run_id, begun.until)) as events:
            async for event in events:
                yield event
    except DeadlineReachedError as error:
        if not begun.is_hurried:
            raise
        raise AnswerError(str(error), param="deadline_s", code="deadline_reached") from error


async def _watch_until(service: Service, run_id: str, until: float) -> AsyncGenerator[Event | None]:
    """Yield events as `followed` does, without converting errors."""
    async with aclosing(service.manager.watch(run_id)) as events:
        coming = asyncio.ensure_future(anext(events))
        is_due = False
        try:
            while True:
                left = BEAT_S if is_due else min(BEAT_S, max(0.0, until - time.monotonic()))
                await asyncio.wait((coming,), timeout=left)
                if coming.done():
                    event = coming.result()
                    yield event
                    if isinstance(event, Finished):
                        return
                    coming = asyncio.ensure_future(anext(events))
                elif not is_due and time.monotonic() >= until:
                    is_due = True
                    if (result := await _current_result(service, run_id)) is not None:
                        yield Finished(run_id=run_id, result=result)
                        return
                else:
                    yield None
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


async def wait_for_results(service: Service, begun: StartedRuns) -> list[RunResult]:
    """Wait for runs, and return the results with an image; raise the first error if there are none."""
    waiting = (_wait_for_result(service, begun, run_id) for run_id in begun.run_ids)
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    results = [end for end in ends if isinstance(end, RunResult)]
    faults = [end for end in ends if isinstance(end, BaseException)]
    if not results:
        raise faults[0]
    return results


async def load_png(service: Service, result: RunResult) -> bytes:
    """Return the PNG of a result: the saved file with its metadata, or the stored image."""
    saved = result._repr_png_()
    return saved or await service.gems.resources.images.load(result.image_id or "")


async def _wait_for_result(service: Service, begun: StartedRuns, run_id: str) -> RunResult:
    async with aclosing(watch_until_due(service, begun, run_id)) as events:
        async for event in events:
            if isinstance(event, Finished):
                return event.result
    raise InternalError("A run ended without a result.")


async def _current_result(service: Service, run_id: str) -> RunResult | None:
    """Return the current state of a run; None without an image."""
    with suppress(GemsError):
        result = await service.gems.show(run_id)
        if result.image_id is not None:
            return result
    return None
