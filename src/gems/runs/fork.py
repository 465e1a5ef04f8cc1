"""Fork a trajectory: a new run that shares the history of another one up to a round."""

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
from gems.memory.ledger import RunRow
from gems.memory.locking import RunLocks
from gems.nodes.stopping import count_images
from gems.options import check_prompt, resolve_options
from gems.resources import Resources
from gems.state import Input, State
from gems.types import Options

Graph = CompiledStateGraph[Any, Any, Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked of a fork.

    Attributes:
        round: The last round that is shared, from 1.
        prompt: What to draw next; None for the reflector's own.
        options: Options of the new run in the form that the graph takes; the source's for the rest.
    """

    round: int
    prompt: str | None
    options: Input


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkPoint:
    """Where two runs part.

    Attributes:
        snapshot: The source's state after the round that is shared last.
        node: The node that seems to have been carried out last: the next one follows from it.
        update: What the new run's state has in place of the source's.
        options: The new run's options.
    """

    snapshot: StateSnapshot
    node: str
    update: dict[str, Any]
    options: Options


async def fork_point(graph: Graph, row: RunRow, wish: Wish, resources: Resources) -> ForkPoint:
    """Where a run can be forked as wished; nothing is written.

    Raises:
        OptionError: the run has no such round, or the options leave nothing to do.
        PromptError: the prompt is empty or too long.
    """
    prompt = None if wish.prompt is None else check_prompt(wish.prompt)
    snapshot = await _snapshot(graph, row, wish.round)
    state = cast("State", snapshot.values)
    options = _options(row["options"], state, wish, resources)
    update: dict[str, Any] = {"options": options, "stop_reason": None, "failure": None}
    if prompt is not None:
        return ForkPoint(
            snapshot=snapshot,
            node="reflector",
            update=update | {"draw_prompt": prompt, "thought": ""},
            options=options,
        )
    if _is_reflected(snapshot):
        return ForkPoint(snapshot=snapshot, node="reflector", update=update, options=options)
    if state["rounds"][-1]["score"] == 1.0:
        raise OptionError(
            f"Round {wish.round} of {row['run_id']} meets every requirement: nothing is left to do.",
            hint="Say what to draw next with --prompt.",
        )
    return ForkPoint(snapshot=snapshot, node="judge", update=update, options=options)


async def write_fork(
    graph: Graph, source: RunRow, run: str, point: ForkPoint, resources: Resources
) -> RunRow:
    """Make the new run: its checkpoints, its part of the ledger, and last its place in the index."""
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
async def kept_from_deletion(locks: RunLocks, row: RunRow) -> AsyncIterator[None]:
    """See to it that a run is not deleted meanwhile, even if it is being carried out.

    Raises:
        RunBusyError: it is being deleted or forked already.
    """
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(locks.hold(row["run_id"]))
        except RunBusyError:
            # Whoever carries it out holds its lock, and keeps it from being deleted just as well.
            if row["status"] != "running":
                raise
        yield


def thread(run: str) -> RunnableConfig:
    """The configuration that names a run's thread."""
    return {"configurable": {"thread_id": run}}


async def _snapshot(graph: Graph, row: RunRow, number: int) -> StateSnapshot:
    """The state right after the reflector's turn in a round; after the judge's where it had none."""
    judged = 0
    chosen: StateSnapshot | None = None
    async for snapshot in graph.aget_state_history(thread(row["run_id"])):
        rounds = len(snapshot.values.get("rounds") or ())
        judged = max(judged, rounds)
        if rounds < number:
            break
        if rounds == number and (chosen is None or _is_reflected(snapshot) or not _is_reflected(chosen)):
            # The history is told backwards, so that the first state of its kind comes last.
            chosen = snapshot
    if chosen is None or number < 1:
        has = f"has {judged} judged round{'' if judged == 1 else 's'}"
        raise OptionError(
            f"The run {row['run_id']} {has}, so it cannot be forked at round {number}.",
            hint="`gems show RUN` shows its rounds.",
        )
    return chosen


def _is_reflected(snapshot: StateSnapshot) -> bool:
    return "generator" in snapshot.next and not snapshot.values.get("stop_reason")


def _options(source: Options, state: State, wish: Wish, resources: Resources) -> Options:
    """The new run's options, which leave room for a round at least."""
    given = {name: value for name, value in wish.options.items() if value is not None}
    kept: Mapping[str, Any] = {
        **source,
        "plateau": source["plateau"] or 0,
        "size": f"{source['width']}x{source['height']}" if source.get("sized", True) else None,
        "max_rounds": max(source["max_rounds"], wish.round + 1),
    }
    options = resolve_options(cast("Input", {**kept, **given}), resources.context())
    if options["max_rounds"] <= wish.round:
        raise OptionError(
            f"{options['max_rounds']} rounds leave none after round {wish.round}.",
            hint=f"Allow more than {wish.round} rounds.",
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

    The writes that belong to the last one are left out: with them the source went on.
    """
    last = point["configurable"]["checkpoint_id"]
    source = {"configurable": {"thread_id": point["configurable"]["thread_id"], "checkpoint_ns": ""}}
    known = {kept.checkpoint["id"]: kept async for kept in saver.alist(cast("RunnableConfig", source))}
    chain: list[CheckpointTuple] = []
    following: str | None = last
    while following is not None:
        if following not in known:
            raise StorageError(f"A checkpoint of {source['configurable']['thread_id']} is missing.")
        chain.append(known[following])
        parent = known[following].parent_config
        following = parent["configurable"]["checkpoint_id"] if parent else None
    for kept in reversed(chain):
        await _copy_checkpoint(saver, kept, run, with_writes=kept.checkpoint["id"] != last)


async def _copy_checkpoint(
    saver: BaseCheckpointSaver[Any], kept: CheckpointTuple, run: str, *, with_writes: bool
) -> None:
    parent = kept.parent_config["configurable"]["checkpoint_id"] if kept.parent_config else None
    at: dict[str, Any] = {"thread_id": run, "checkpoint_ns": ""}
    config: RunnableConfig = {"configurable": at | ({"checkpoint_id": parent} if parent else {})}
    versions = kept.checkpoint["channel_versions"]
    copied = await saver.aput(config, kept.checkpoint, kept.metadata, versions)
    by_task: dict[str, list[tuple[str, Any]]] = {}
    for task, channel, value in (kept.pending_writes or ()) if with_writes else ():
        by_task.setdefault(task, []).append((channel, value))
    for task, writes in by_task.items():
        await saver.aput_writes(copied, writes, task)
