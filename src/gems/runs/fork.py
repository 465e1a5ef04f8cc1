"""Fork a run: start a new run that shares the history of another one up to a round."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import StateSnapshot

from gems.errors import OptionError, RunBusyError, StorageError
from gems.memory.locks import RunLocks
from gems.nodes.generator import count_images
from gems.nodes.person import check_decision, decision_update
from gems.options import check_prompt, resolve_options
from gems.resources import Resources
from gems.state import Input, State
from gems.types import Decision, Options, RunRow

Graph = CompiledStateGraph[Any, Any, Any, Any]


async def create_fork(
    graph: Graph,
    source: RunRow,
    run: str,
    number: int,
    prompt: str | None,
    given: Input,
    resources: Resources,
    decision: Decision | None = None,
) -> RunRow:
    """Create the run `run` that shares rounds 1 to `number` of another one; return its entry in the index.

    `prompt` is the next prompt, by default the reflector's, `given` the options that differ, and `decision` what a
    person wants next. Raises OptionError before anything is written if there is no such round, the options leave
    nothing to do, or the decision cannot be carried out.
    """
    if prompt is not None:
        check_prompt(prompt)
    snapshot = await _find_snapshot(graph, source, number)
    state = cast("State", snapshot.values)
    options = _fork_options(source["options"], state, number, given, resources)
    update: dict[str, Any] = {"run_id": run, "options": options, "stop_reason": None, "failure": None}
    node = "reflector" if prompt is not None or _is_reflected(snapshot) else "judge"
    if decision is not None:
        # The reflector comes next, and writes down what the person said.
        node, update = "person", update | await _decision_update(decision, state, prompt, options, resources)
    elif prompt is not None:
        update |= {"current_prompt": prompt, "judge_reasoning": ""}
    elif node == "judge" and state["rounds"][-1]["score"] == 1.0:
        raise OptionError(
            f"Round {number} of {source['run_id']} meets every requirement: nothing is left to do.",
            hint="Set the next prompt with --prompt.",
        )
    try:
        # The entry in the index comes last: until then the run does not exist for others.
        await resources.ledger.enter_fork(run, source["run_id"], number)
        await _copy_history(resources.checkpointer, snapshot.config, run)
        await graph.aupdate_state(thread(run), update, as_node=node)
        models = resources.models(options)
        row = await resources.ledger.begin(run, source["prompt"], options, models, source["owner"])
    except BaseException:
        await resources.checkpointer.adelete_thread(run)
        await resources.ledger.forget(run)
        raise
    return row | {"forked_from": {"run_id": source["run_id"], "round": number}}


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


def _fork_options(source: Options, state: State, number: int, given: Input, resources: Resources) -> Options:
    """Return the new run's options, which must allow at least one more round."""
    saved: Mapping[str, Any] = {
        **{name: value for name, value in source.items() if name != "early_stop"},
        "plateau": None if source.get("early_stop") else source["plateau"] or 0,
        "size": f"{source['width']}x{source['height']}" if source.get("sized", True) else None,
        "max_rounds": max(source["max_rounds"], number + 1),
    }
    options = resolve_options({"patches": [], **saved, **given}, resources.context())
    if options["max_rounds"] <= number:
        raise OptionError(
            f"{options['max_rounds']} rounds leave none after round {number}.", hint=f"Allow more than {number} rounds."
        )
    limit, drawn = options["max_images"], count_images(state["rounds"])
    if limit is not None and limit <= drawn:
        raise OptionError(
            f"{limit} images leave none after the {drawn} that are shared.", hint=f"Allow more than {drawn} images."
        )
    return options


async def _decision_update(
    given: Decision, state: State, prompt: str | None, options: Options, resources: Resources
) -> dict[str, Any]:
    if prompt is not None:
        raise OptionError("A fork has a prompt or a decision.", hint="Give one of them.")
    rounds, generator = state["rounds"], resources.context(options).generator.capabilities
    decision = await check_decision(given, rounds, resources.images, generator)
    if decision["action"] not in ("edit", "redraw"):
        raise OptionError(f"A fork cannot begin with {decision['action']}.", hint="Use edit or redraw.")
    return decision_update(decision, rounds, None, generator)


async def _copy_history(saver: BaseCheckpointSaver[Any], point: RunnableConfig, run: str) -> None:
    """Copy a checkpoint and all before it, without the writes that led to the source's next step."""
    last = point["configurable"]["checkpoint_id"]
    source = {"configurable": {"thread_id": point["configurable"]["thread_id"], "checkpoint_ns": ""}}
    checkpoints = {saved.checkpoint["id"]: saved async for saved in saver.alist(cast("RunnableConfig", source))}
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
