"""Carrying out one run: the graph to its end, the result saved, something handed back whatever happens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Literal, cast

from langgraph.errors import GraphDrained
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Interrupt

from gems.arguments import Target
from gems.errors import GemsError, RunDrainedError
from gems.events import Event, Finished, Started, Warned, read_event
from gems.graphs.loop import RECURSION_LIMIT
from gems.memory.ledger import RunRow, RunStatus
from gems.nodes.lessons import UNREACHABLE, has_store_warning
from gems.observability.logging import within_run
from gems.observability.tracing import Span
from gems.outcomes import build_result
from gems.resources import Resources
from gems.results import RunResult
from gems.runs.fork import thread
from gems.runs.output import save_result
from gems.runs.recovery import Known, known_drawings, named_error, readable_state, rescued_state, snapshot_of
from gems.settings import Settings
from gems.state import Context, Input, State
from gems.waiting import answer_needed_error, pending_question

logger = logging.getLogger(__name__)

Start = Input | Command[Any] | None
"""What the graph is invoked with: a request, an answer, or nothing where the checkpoints say it all."""
_CANCEL_POLL_S = 0.5
_HAND_ON_S = 10.0
_TOLD: tuple[Literal["profile", "seed", "max_rounds", "candidates"], ...] = (
    "profile",
    "seed",
    "max_rounds",
    "candidates",
)
"""The options that traces tell."""


class Carrier:
    """Carries out runs on an opened graph.

    Args:
        graph: Compiled with the resources' checkpointer and store.
        resources: The opened models and stores.
        settings: Where files are.

    Attributes:
        working: The contexts of the runs that are going on, by their ids.
    """

    def __init__(
        self, graph: CompiledStateGraph[Any, Any, Any, Any], resources: Resources, settings: Settings
    ) -> None:
        self._graph, self._resources, self._settings = graph, resources, settings
        self.working: dict[str, Context] = {}

    async def snapshot(self, run_id: str) -> Any:
        """The newest checkpoint of a run.

        Raises:
            CorruptStoreError: it cannot be read.
        """
        return await snapshot_of(self._graph, thread(run_id), self._settings.checkpoints_path)

    async def carry_out(self, row: RunRow, start: Start, target: Target) -> AsyncGenerator[Event]:
        """Run the graph to its end, save the result, and hand back what there is whatever happens."""
        context = self._resources.context()
        facts = {name: row["options"][name] for name in _TOLD}
        with (
            within_run(row["run_id"]),
            self._resources.tracing.run(row["run_id"], **facts) as (span, tracing),
        ):
            span.texts(prompt=row["prompt"])
            carrying = self._carried(row, start, target, replace(context, tracing=tracing))
            async with aclosing(carrying) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        _tell(span, event.result)
                    yield event

    async def _carried(
        self, row: RunRow, start: Start, target: Target, context: Context
    ) -> AsyncGenerator[Event]:
        run_id = row["run_id"]
        await self._resources.ledger.mark(run_id, "running")
        heard: list[Event] = []
        unheard: list[str] = []
        asked: Interrupt | None = None
        try:
            async with self._watched(run_id, context):
                yield Started(run_id=run_id, resumed=start is None or isinstance(start, Command))
                async with aclosing(self._events(run_id, start, context)) as events:
                    async for event in events:
                        if event.type != "step":
                            heard.append(event)
                        yield event
                snapshot = await self.snapshot(run_id)
                state, asked = cast("State", snapshot.values), pending_question(snapshot)
        except GraphDrained:
            await self._mark(run_id, "interrupted", {"drained": True})
            raise _drained(run_id) from None
        except (asyncio.CancelledError, GeneratorExit):
            await asyncio.shield(self._mark(run_id, "interrupted"))
            raise
        except Exception as error:  # noqa: BLE001 - an image that exists is handed back whatever happens
            state, unheard = await self._rescued(row, error, heard)
        if asked is not None:
            await self._mark(run_id, "interrupted")
            raise answer_needed_error(run_id, asked)
        if note := await self._learnt(row, state):
            state = state | {"warnings": [*(state.get("warnings") or []), note]}
            unheard.append(note)
        finished = await self._finished(row, state, target)
        # What went wrong with the checkpoints and with saving; everything else was told by the loop.
        unheard += finished.result.warnings[len(state.get("warnings") or []) :]
        for message in unheard:
            yield Warned(run_id=run_id, message=message)
        yield finished

    @asynccontextmanager
    async def _watched(self, run_id: str, context: Context) -> AsyncIterator[None]:
        """Known as going on, and ended where another process asks for it."""
        self.working[run_id] = context
        watching = asyncio.create_task(self._watch_for_cancel(run_id, context))
        try:
            yield
        finally:
            self.working.pop(run_id, None)
            watching.cancel()
            (watched,) = await asyncio.gather(watching, return_exceptions=True)
            if isinstance(watched, Exception):
                logger.warning("Requests to cancel %s could not be looked for: %s", run_id, watched)

    async def _events(self, run_id: str, start: Start, context: Context) -> AsyncGenerator[Event]:
        # With subgraphs, or what skills tell would not be heard.
        stream = self._graph.astream(
            start,
            {**thread(run_id), "recursion_limit": RECURSION_LIMIT},
            context=context,
            stream_mode="custom",
            subgraphs=True,
            durability="async",
            control=context.control,
        )
        async for _path, value in stream:
            yield read_event(cast("dict[str, Any]", value))

    async def _watch_for_cancel(self, run_id: str, context: Context) -> None:
        """Look for a request to cancel from another process until one comes."""
        while not context.cancelled.is_set():
            if await self._resources.ledger.cancel_requested(run_id):
                context.cancelled.set()
            with suppress(TimeoutError):
                await asyncio.wait_for(context.cancelled.wait(), _CANCEL_POLL_S)

    async def _rescued(self, row: RunRow, cause: Exception, heard: list[Event]) -> tuple[State, list[str]]:
        run_id, checkpoints = row["run_id"], self._settings.checkpoints_path
        error = named_error(cause, checkpoints)
        error.run_id = run_id
        state = await readable_state(self._graph, thread(run_id), checkpoints)
        known = Known(heard, await known_drawings(self._resources.ledger, run_id))
        try:
            return rescued_state(state, row, known, error)
        except GemsError:
            await self._mark(run_id, "failed")
            raise

    async def _finished(self, row: RunRow, state: State, target: Target) -> Finished:
        status: RunStatus = "failed" if state.get("stop_reason") == "failed" else "done"
        result = build_result(state, row, status)
        folder = self._settings.home / "outputs"
        result = await save_result(
            result, self._resources.images, target.get("out") or folder, metadata=target["metadata"]
        )
        summary = {
            "score": result.score,
            "stop_reason": result.stop_reason,
            "rounds": len(result.rounds),
            "images": sum(len(turn["candidates"]) for turn in result.rounds),
            "image": result.image_id,
            "path": result.path,
        }
        await self._mark(result.run_id, status, summary)
        return Finished(run_id=result.run_id, result=result)

    async def _learnt(self, row: RunRow, state: State) -> str:
        """See that what the run learnt is in the store; what to say where that has to wait."""
        experiences = self._resources.experiences
        if experiences is None or not row["options"].get("memory", True):
            return ""
        fault = await experiences.writer.flush(_HAND_ON_S)
        told = has_store_warning(state.get("warnings") or ())
        return f"{UNREACHABLE} {fault} What this run learnt is written later." if fault and not told else ""

    async def _mark(self, run_id: str, status: RunStatus, summary: dict[str, Any] | None = None) -> None:
        """Bring the index up to date; it only serves listing, so a fault of it takes nothing away."""
        try:
            await self._resources.ledger.mark(run_id, status, summary)
        except GemsError as error:
            logger.warning("The run %s could not be marked as %s: %s", run_id, status, error)


def _tell(span: Span, result: RunResult) -> None:
    span.tell(
        status=result.status,
        stop_reason=result.stop_reason,
        score=result.score,
        rounds=len(result.rounds),
        best_round=result.best_round,
    )
    if result.failure is not None:
        span.failed(result.failure["error"])


def _drained(run_id: str) -> RunDrainedError:
    error = RunDrainedError("The run was stopped with its process.")
    error.run_id = run_id
    return error
