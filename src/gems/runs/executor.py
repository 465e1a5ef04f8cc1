"""Run the graph to its end, save and report (RunExecutor)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, cast

from langgraph.errors import GraphDrained
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Interrupt, StateSnapshot

from gems.errors import AnswerNeededError, GemsError, OptionError, RunDrainedError
from gems.events import Event, Finished, Started, Warned, read_event
from gems.graphs.loop import RECURSION_LIMIT
from gems.nodes.generator import count_images
from gems.nodes.lessons import UNREACHABLE, has_store_warning
from gems.observability.logging import within_run
from gems.observability.tracing import Span
from gems.options import Target
from gems.resources import Resources
from gems.results import RunResult, build_result
from gems.runs.fork import thread
from gems.runs.output import save_result
from gems.runs.recovery import ledger_drawings, read_snapshot, read_state, recover_state, to_gems_error
from gems.settings import Settings
from gems.state import Context, Input, State
from gems.types import Decision, RunRow, RunStatus, total_usage

logger = logging.getLogger(__name__)

Start = Input | Command[Any] | None
"""Graph input: a request, an answer, or None to continue from the checkpoints."""
_CANCEL_POLL_S = 0.5
_FLUSH_TIMEOUT_S = 10.0


def resume_input(run_id: str, snapshot: StateSnapshot, answer: str | Decision | None) -> Command[Any] | None:
    """Return the answer to a run's question as graph input; None if it asks none and there is no answer."""
    if not snapshot.interrupts:
        if answer is not None:
            raise OptionError(f"The run {run_id} does not ask a question.", hint="Resume it without an answer.")
        return None
    question = snapshot.interrupts[0]
    if answer is None:
        raise _answer_needed_error(run_id, question)
    return Command(resume={question.id: answer})


def asks_for_decision(snapshot: StateSnapshot) -> bool:
    """Return whether the run waits for the decision of a person, not for the answer to a skill."""
    return bool(snapshot.interrupts) and snapshot.next == ("person",)


def _answer_needed_error(run_id: str, question: Interrupt) -> AnswerNeededError:
    asked = question.value
    is_decision = isinstance(asked, dict) and "choices" in asked
    who, text, most = ("The run", asked["question"], 5_000) if is_decision else ("A skill", str(asked), 500)
    error = AnswerNeededError(
        f"{who} asks: {' '.join(text.split())[:most]}", hint=f"Answer with: gems resume {run_id} --answer TEXT"
    )
    error.run_id, error.question = run_id, asked
    return error


class RunExecutor:
    """Executes runs on a compiled graph; `working` are the contexts of the runs in progress, by id."""

    def __init__(self, graph: CompiledStateGraph[Any, Any, Any, Any], resources: Resources, settings: Settings) -> None:
        self._graph, self._resources, self._settings = graph, resources, settings
        self.working: dict[str, Context] = {}

    async def snapshot(self, run_id: str) -> StateSnapshot:
        """Return the newest checkpoint of a run; CorruptStoreError if it cannot be read."""
        return await read_snapshot(self._graph, thread(run_id), self._settings.checkpoints_path)

    async def execute(self, row: RunRow, start: Start, target: Target) -> AsyncGenerator[Event]:
        """Run the graph to its end, save the result, and yield the events."""
        context = self._resources.context(row["options"])
        traced = ("profile", "seed", "max_rounds", "candidates")
        facts = {name: value for name, value in row["options"].items() if name in traced}
        with within_run(row["run_id"]), self._resources.tracing.run(row["run_id"], **facts) as (span, tracing):
            span.set_texts(prompt=row["prompt"])
            run_events = self._run_graph(row, start, target, replace(context, tracing=tracing))
            async with aclosing(run_events) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        _trace_result(span, event.result)
                    yield event

    async def _run_graph(self, row: RunRow, start: Start, target: Target, context: Context) -> AsyncGenerator[Event]:
        run_id = row["run_id"]
        await self._resources.ledger.mark(run_id, "running")
        newest: dict[str, Any] = {}
        new_warnings: list[str] = []
        question: Interrupt | None = None
        try:
            async with self._watch(run_id, context):
                yield Started(run_id=run_id, resumed=start is None or isinstance(start, Command))
                async with aclosing(self._events(run_id, start, context, newest)) as events:
                    async for event in events:
                        yield event
                snapshot = await self.snapshot(run_id)
                state = cast("State", snapshot.values)
                question = snapshot.interrupts[0] if snapshot.interrupts else None
        except GraphDrained:
            await self._mark(row, "interrupted", {"drained": True})
            error = RunDrainedError("The run was interrupted because its process is stopping.")
            error.run_id = run_id
            raise error from None
        except (asyncio.CancelledError, GeneratorExit):
            await asyncio.shield(self._mark(row, "interrupted"))
            raise
        except Exception as error:  # noqa: BLE001 - an existing image is always returned
            state, new_warnings = await self._recover(row, error, newest)
        if question is not None:
            await self._mark(row, "interrupted")
            raise _answer_needed_error(run_id, question)
        if note := await self._flush_experiences(row, state):
            state = state | {"warnings": [*(state.get("warnings") or []), note]}
            new_warnings.append(note)
        finished = await self._finish(row, state, target)
        # Problems with checkpoints and saving; the loop emitted all other warnings.
        new_warnings += finished.result.warnings[len(state.get("warnings") or []) :]
        for message in new_warnings:
            yield Warned(run_id=run_id, message=message)
        yield finished

    @asynccontextmanager
    async def _watch(self, run_id: str, context: Context) -> AsyncIterator[None]:
        """Register the run as in progress, and cancel it if another process requests it."""
        self.working[run_id] = context
        watching = asyncio.create_task(self._watch_for_cancel(run_id, context))
        try:
            yield
        except GraphDrained:
            # The run is resumed later: what it has asked for is not asked for again.
            await context.end_ahead()
            raise
        finally:
            self.working.pop(run_id, None)
            watching.cancel()
            await context.end_ahead(cancel=True)
            (watched,) = await asyncio.gather(watching, return_exceptions=True)
            if isinstance(watched, Exception):
                logger.warning("Requests to cancel %s could not be checked: %s", run_id, watched)

    async def _events(
        self, run_id: str, start: Start, context: Context, newest: dict[str, Any]
    ) -> AsyncGenerator[Event]:
        """Yield the events, and keep the state after each step in `newest`, in case checkpoints fail."""
        # With subgraphs, to include the events of skills.
        stream = self._graph.astream(
            start,
            {**thread(run_id), "recursion_limit": RECURSION_LIMIT},
            context=context,
            stream_mode=["custom", "values"],
            subgraphs=True,
            durability="async",
            control=context.control,
        )
        async for path, mode, value in cast("AsyncIterator[tuple[tuple[str, ...], str, Any]]", stream):
            if mode == "custom":
                yield read_event(value)
            elif not path:
                newest.update(value)

    async def _watch_for_cancel(self, run_id: str, context: Context) -> None:
        """Poll for a request to cancel from another process until there is one."""
        while not context.cancelled.is_set():
            if await self._resources.ledger.cancel_requested(run_id):
                context.cancelled.set()
            with suppress(TimeoutError):
                await asyncio.wait_for(context.cancelled.wait(), _CANCEL_POLL_S)

    async def _recover(self, row: RunRow, cause: Exception, newest: dict[str, Any]) -> tuple[State, list[str]]:
        run_id, checkpoints = row["run_id"], self._settings.checkpoints_path
        error = to_gems_error(cause, checkpoints)
        error.run_id = run_id
        state = newest or await read_state(self._graph, thread(run_id), checkpoints)
        try:
            return recover_state(state, row, await ledger_drawings(self._resources.ledger, run_id), error)
        except GemsError:
            await self._mark(row, "failed")
            raise

    async def _finish(self, row: RunRow, state: State, target: Target) -> Finished:
        status: RunStatus = "failed" if state.get("stop_reason") == "failed" else "done"
        out = target.get("out") or self._settings.home / "outputs"
        result = await save_result(
            build_result(state, row, status), self._resources.images, out, metadata=target["metadata"]
        )
        summary = {
            "score": result.score,
            "stop_reason": result.stop_reason,
            "rounds": len(result.rounds),
            "images": count_images(result.rounds),
            "image": result.image_id,
            "path": result.path,
            "calls": total_usage(result.usage, chat_only=True)["calls"],
            "usd": total_usage(result.usage)["usd"],
        }
        await self._mark(row, status, summary)
        return Finished(run_id=result.run_id, result=result)

    async def _flush_experiences(self, row: RunRow, state: State) -> str:
        """Flush the run's experiences to the store; return a warning if that must wait."""
        experiences = self._resources.experiences
        if experiences is None or not row["options"].get("memory", True):
            return ""
        fault = await experiences.writer.flush(_FLUSH_TIMEOUT_S)
        if fault is None or has_store_warning(state.get("warnings") or ()):
            return experiences.outbox.note
        return f"{UNREACHABLE} {fault} The experiences of this run will be written later."

    async def _mark(self, row: RunRow, status: RunStatus, summary: dict[str, Any] | None = None) -> None:
        """Update the index, which serves listing and limits of users, so errors are only logged."""
        ledger, run_id = self._resources.ledger, row["run_id"]
        try:
            await ledger.enter_spending(run_id, self._resources.image_price(row["options"]))
            await ledger.mark(run_id, status, summary)
        except GemsError as error:
            logger.warning("The run %s could not be marked as %s: %s", run_id, status, error)


def _trace_result(span: Span, result: RunResult) -> None:
    span.set_facts(
        status=result.status,
        stop_reason=result.stop_reason,
        score=result.score,
        rounds=len(result.rounds),
        best_round=result.best_round,
    )
    if result.failure is not None:
        span.record_error(result.failure["error"])


def as_input(row: RunRow) -> Input:
    """Return a run as graph input; its options are in the ledger."""
    given = {"prompt": row["prompt"], "owner": row["owner"], "run_id": row["run_id"]}
    return cast("Input", {name: value for name, value in given.items() if value})
