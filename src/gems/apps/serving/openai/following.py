"""Listening to runs until their answer is due."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from gems.apps.server.dependencies import Service
from gems.apps.server.openai.errors import AnswerError
from gems.apps.server.openai.runs import Begun
from gems.errors import DeadlineReachedError, GemsError, InternalError
from gems.events import Event, Finished
from gems.results import RunResult

BEAT_S = 15.0
"""Silence after which a sign of life is due, since proxies cut connections that are silent for long."""


async def followed(service: Service, begun: Begun, run_id: str) -> AsyncGenerator[Event | None]:
    """What a run tells, ending with `Finished`; None wherever it has been silent for a while.

    A run ends by itself before its answer is due. Where something holds it up, the best image so far stands
    in for its result, and it goes on without anybody listening.

    Args:
        service: The server's.
        begun: What was begun for the request.
        run_id: One of its runs.

    Raises:
        AnswerError: the request left too little time for an image.
        GemsError: the run ended before there was an image.
    """
    try:
        async with aclosing(_listened(service, run_id, begun.until)) as events:
            async for event in events:
                yield event
    except DeadlineReachedError as error:
        if not begun.is_hurried:
            raise
        raise AnswerError(str(error), param="deadline_s", code="deadline_reached") from error


async def _listened(service: Service, run_id: str, until: float) -> AsyncGenerator[Event | None]:
    """The same, whatever the reason for an end without an image."""
    async with aclosing(service.hub.watch(run_id)) as events:
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
                    if (result := await _so_far(service, run_id)) is not None:
                        yield Finished(run_id=run_id, result=result)
                        return
                else:
                    yield None
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


async def finished(service: Service, begun: Begun) -> list[RunResult]:
    """The results of runs, once they are due: of all that came to an image, if any did.

    Raises:
        GemsError: none did.
    """
    listening = (_result(service, begun, run_id) for run_id in begun.run_ids)
    ends = await asyncio.gather(*listening, return_exceptions=True)
    results = [end for end in ends if isinstance(end, RunResult)]
    faults = [end for end in ends if isinstance(end, BaseException)]
    if not results:
        raise faults[0]
    return results


async def png_of(service: Service, result: RunResult) -> bytes:
    """The bytes of a result's picture: as it was saved, which says what made it."""
    saved = result._repr_png_()
    return saved or await service.gems.resources.images.load(result.image_id or "")


async def _result(service: Service, begun: Begun, run_id: str) -> RunResult:
    async with aclosing(followed(service, begun, run_id)) as events:
        async for event in events:
            if isinstance(event, Finished):
                return event.result
    raise InternalError("A run ended without a result.")


async def _so_far(service: Service, run_id: str) -> RunResult | None:
    """The run as far as it came; None while there is no image, or nothing can be read."""
    with suppress(GemsError):
        result = await service.gems.show(run_id)
        if result.image_id is not None:
            return result
    return None
