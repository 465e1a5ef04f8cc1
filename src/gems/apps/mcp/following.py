"""A run followed by whoever called a tool, to its end or until they go."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import Any

import anyio
from mcp.server.mcpserver import Context

from gems.apps.cli.text import pluralize
from gems.apps.run_manager import RunManager
from gems.errors import GemsError, InternalError
from gems.events import Event, Finished, ImageDrawn, Judged, RequirementsListed, Started
from gems.results import RunResult
from gems.types import Options


async def followed(manager: RunManager, run_id: str, context: Context[Any, Any]) -> RunResult:
    """The result of a run, its progress told on the way.

    Whoever cancels the call cancels the run, which keeps its best image.

    Raises:
        GemsError: the run ended before there was an image.
    """
    row = await manager.gems.resources.ledger.run(run_id)
    progress = _Progress(context, row["options"] if row is not None else None)
    try:
        async with aclosing(manager.watch(run_id)) as events:
            async for event in events:
                await progress.tell(event)
                if isinstance(event, Finished):
                    return event.result
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True), suppress(GemsError):
            await manager.cancel(run_id)
        raise
    raise InternalError("A run ended without a result.")


class _Progress:
    """Counts what is done: the list of requirements, each image, and the verdict on each round."""

    def __init__(self, context: Context[Any, Any], options: Options | None) -> None:
        self._context = context
        self._total = 1 + options["max_rounds"] * (options["candidates"] + 1) if options else None
        self._done = 0
        self._listed = False

    async def tell(self, event: Event) -> None:
        message = self._message(event)
        if message:
            await self._context.report_progress(self._done, self._total, message)
            self._done += 1

    def _message(self, event: Event) -> str:
        if isinstance(event, Started):
            return f"run {event.run_id}"
        if isinstance(event, RequirementsListed) and not self._listed:
            # Skills may add some later.
            self._listed = True
            return pluralize(len(event.requirements), "requirement")
        if isinstance(event, ImageDrawn):
            return f"round {event.round}: image {event.candidate['index'] + 1} is drawn"
        if isinstance(event, Judged):
            answers = event.verdicts[event.best]["answers"]
            met = sum(answer["answer"] == "yes" for answer in answers)
            of_all = f"{met} of {pluralize(len(answers), 'requirement')} met"
            return f"round {event.round}: {of_all}, score {event.score:.2f}"
        return ""
