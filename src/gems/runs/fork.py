"""Fork a run: start a new run that shares the history of another one up to a round."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import StateSnapshot

from gems.errors import OptionError, RunBusyError, StorageError
from gems.memory.locks import RunLocks
from gems.nodes.generator import count_images
from gems.options import check_prompt, resolve_options
from gems.resources import Resources
from gems.state import Input, State
from gems.types import Options, RunRow

Graph = CompiledStateGraph[Any, Any, Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkRequest:
    """A request for a fork.

    Attributes:
        round: The last shared round, from 1.
        prompt: The next prompt; None for the reflector's.
        options: Options of the new run as graph input; the source's for the rest.
    """

    round: int
    prompt: str | None
    options: Input


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkPoint:
    """The checkpoint to fork at.

    Attributes:
        snapshot: The source's state after the last shared round.
        node: The node after which the graph continues.
        update: Values in the new run's state that differ from the source's.
        options: The new run's options.
    """

    snapshot: StateSnapshot
    node: str
    update: dict[str, Any]
    options: Options


async def fork_point(graph: Graph, row: RunRow, request: ForkRequest, resources: Resources) -> ForkPoint:
    """Find the checkpoint to fork at; nothing is written.

    Raises OptionError if the run has no such round or the options leave nothing to do.
    """
    prompt = None if request.prompt is None else check_prompt(request.prompt)
    snapshot = await _find_snapshot(graph, row, request.round)
    state = cast("State", snapshot.values)
    options = _fork_options(row["options"], state, request, resources)
    update: dict[str, Any] = {"options": options, "stop_reason": None, "failure": None}
    if prompt is not None:
        return ForkPoint(
            snapshot=snapshot,
            node="reflector",
            update=update | {"current_prompt": prompt, "judge_reasoning": ""},
            options=options,
        )
    if _is_reflected(snapshot):
        return ForkPoint(snapshot=snapshot, node="reflector", update=update, options=options)
    if state["rounds"][-1]["score"] == 1.0:
        raise OptionError(
            f"Round {request.round} of {row['run_id']} meets every requirement: nothing is left to do.",
            hint="Set the next prompt with --prompt.",
        )
    return ForkPoint(snapshot=snapshot, node="judge", update=update, options=options)


async def write_fork(
    graph: Graph, source: RunRow, run: str, point: ForkPoint, resources: Resources
) -> RunRow:
    """Create the new run: its checkpoints, its part of the ledger, and last its entry in the index."""
    config = thread(run)
    shared = len(point.snapshot.values["rounds"])
    try:
        await resources.ledger.enter_fork(run, source["run_id"], shared)
        await _copy_history(resources.checkpointer, point.snapshot.config, run)
        await graph.aupdate_state(config, point.update | {"run_id": run}, as_node=point.node)
        row = await resources.ledger.begin(
            run, source["prompt"], point.options, resources.models(), source["owner"]
        )
    except BaseException:
        await resources.checkpointer.adelete_thread(run)
        await resources.ledger.forget(run)
        raise
    return row | {"forked_from": {"run_id": source["run_id"], "round": shared}}


@asynccontextmanager
async def prevent_deletion(locks: RunLocks, row: RunRow) -> AsyncIterator[None]:
    """Keep a run from being deleted meanwhile; RunBusyError if it is being deleted or forked already."""
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(locks.hold(row["run_id"]))
        except RunBusyError:
            # The process that executes the run holds its lock, which prevents deletion too.
            if row["status"] != "running":
                raise
        yield


def thread(run: str) -> RunnableConfig:
    """Return the configuration with a run's thread."""
    return {"configurable": {"thread_id": run}}


async def _find_snapshot(graph: Graph, row: RunRow, number: int) -> StateSnapshot:
    """Return the state right after the reflector ran in a round; after the judge if it did not run."""
    judged = 0
    chosen: StateSnapshot | None = None
    async for snapshot in graph.aget_state_history(thread(row["run_id"])):
        rounds = len(snapshot.values.get("rounds") or ())
        judged = max(judged, rounds)
        if rounds < number:
            break
        if rounds == number and (chosen is None or _is_reflected(snapshot) or not _is_reflected(chosen)):
            # The history is in reverse order, so the first state of its kind comes last.
            chosen = snapshot
    if chosen is None or number < 1:
        rounds_text = f"has {judged} judged round{'' if judged == 1 else 's'}"
        raise OptionError(
            f"The run {row['run_id']} {rounds_text}, so it cannot be forked at round {number}.",
            hint="`gems show RUN` shows its rounds.",
        )
    return chosen


def _is_reflected(snapshot: StateSnapshot) -> bool:
    return "generator" in snapshot.next and not snapshot.values.get("stop_reason")


def _fork_options(source: Options, state: State, request: ForkRequest, resources: Resources) -> Options:
    """Return the new run's options, which must allow at least one more round."""
    given = {name: value for name, value in request.options.items() if value is not None}
    saved: Mapping[str, Any] = {
        **source,
        "plateau": source["plateau"] or 0,
        "size": f"{source['width']}x{source['height']}" if source.get("sized", True) else None,
        "max_rounds": max(source["max_rounds"], request.round + 1),
    }
    options = resolve_options(cast("Input", {**saved, **given}), resources.context())
    if options["max_rounds"] <= request.round:
        raise OptionError(
            f"{options['max_rounds']} rounds leave none after round {request.round}.",
            hint=f"Allow more than {request.round} rounds.",
        )
    limit, drawn = options["max_images"], count_images(state["rounds"])
    if limit is not None and limit <= drawn:
        raise OptionError(
            f"{limit} images leave none after the {drawn} that are shared.",
            hint=f"Allow more than {drawn} images.",
        )
    return options


async def _copy_history(saver: BaseCheckpointSaver[Any], point: RunnableConfig, run: str) -> None:
    """Copy a checkpoint and all before it to the thread of `run`.

    The writes of the last one are left out: they led to the source's next step.
    """
    last = point["configurable"]["checkpoint_id"]
    source = {"configurable": {"thread_id": point["configurable"]["thread_id"], "checkpoint_ns": ""}}
    checkpoints = {
        saved.checkpoint["id"]: saved async for saved in saver.alist(cast("RunnableConfig", source))
    }
    chain: list[CheckpointTuple] = []
    checkpoint_id: str | None = last
    while checkpoint_id is not None:
        if checkpoint_id not in checkpoints:
            raise StorageError(f"A checkpoint of {source['configurable']['thread_id']} is missing.")
        chain.append(checkpoints[checkpoint_id])
        parent = checkpoints[checkpoint_id].parent_config
        checkpoint_id = parent["configurable"]["checkpoint_id"] if parent else None
    for saved in reversed(chain):
        await _copy_checkpoint(saver, saved, run, with_writes=saved.checkpoint["id"] != last)


async def _copy_checkpoint(
    saver: BaseCheckpointSaver[Any], saved: CheckpointTuple, run: str, *, with_writes: bool
) -> None:
    parent = saved.parent_config["configurable"]["checkpoint_id"] if saved.parent_config else None
    target: dict[str, Any] = {"thread_id": run, "checkpoint_ns": ""}
    config: RunnableConfig = {"configurable": target | ({"checkpoint_id": parent} if parent else {})}
    versions = saved.checkpoint["channel_versions"]
    copied = await saver.aput(config, saved.checkpoint, saved.metadata, versions)
    by_task: dict[str, list[tuple[str, Any]]] = {}
    for task, channel, value in (saved.pending_writes or ()) if with_writes else ():
        by_task.setdefault(task, []).append((channel, value))
    for task, writes in by_task.items():
        await saver.aput_writes(copied, writes, task)
