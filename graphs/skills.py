"""Skills as nodes of the loop: each runs its own compiled graph, and none can break a run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_config
from langgraph.errors import GraphBubbleUp, ParentCommand
from langgraph.runtime import Runtime

from gems.errors import (
    AuthenticationError,
    GemsError,
    LimitReached,
    ModelUnavailableError,
    SkillError,
    StorageError,
    UnreachableError,
)
from gems.graphs.routing import SKILL_NODE, next_skill
from gems.nodes.base import Node, Update, get_context, node_call, usage_update
from gems.nodes.skills import SkillGraph, apply_result, check_usage, limit_time, skill_graph, skip_skill
from gems.skills.loader import format_code_error
from gems.skills.models import Skill
from gems.state import Context, State

logger = logging.getLogger(__name__)

_FATAL = (UnreachableError, AuthenticationError, ModelUnavailableError, LimitReached, StorageError)
"""Errors that would end any other node too and are not the skill's fault."""


_FILES_KEY = "skill_files"
"""Key of checkpoint metadata: the state of a skill's files when its graph started."""


def skill_node(skill: Skill, default: Context | None = None) -> Node:
    """Return the loop's node for a skill, which calls the skill's graph with explicit input and output.

    An unusable skill gets a node as well, which warns when it is chosen. Blocking if the skill has code.
    """
    # A graph used directly as a node would share every key with the loop's state.
    try:
        inner: SkillGraph | None = skill_graph(skill)
    except SkillError as error:
        logger.warning("The skill %s cannot be used: %s", skill.name, error)
        inner = None

    async def node(state: State, *, runtime: Runtime[Context]) -> Update:
        # If the files have changed since the graph was built, it is built again.
        is_same = get_context(runtime, default).skills.get(skill.name) == skill
        return await _run_skill(skill.name, inner if is_same else None, state, runtime, default)

    node.__name__ = node.__qualname__ = skill.name
    return node


def any_skill_node(default: Context | None = None) -> Node:
    """Return the loop's node for all skills without their own node, including those added later."""

    async def node(state: State, *, runtime: Runtime[Context]) -> Update:
        name = next_skill(state)
        if name is None:
            return {}
        return await _run_skill(name, None, state, runtime, default)

    node.__name__ = node.__qualname__ = "any_skill"
    return node


async def _run_skill(
    name: str, graph: SkillGraph | None, state: State, runtime: Runtime[Context], default: Context | None
) -> Update:
    """Run a skill's graph and use its output; if it fails, the run continues without it."""
    so_far: dict[str, Any] = {}
    with node_call(SKILL_NODE.format(name), state, runtime, default) as (work, span):
        work.check_limits()
        try:
            await work.within_limits(_stream_graph(name, graph, state, work.context, so_far))
            update = apply_result(name, so_far, state, work)
        except ParentCommand:
            # It would redirect the loop.
            update = skip_skill(name, "It commands the graph that it is part of.", state, work)
        except (GraphBubbleUp, *_FATAL):
            raise
        except Exception as error:  # noqa: BLE001 - third-party code
            span.record_error(error)
            fault = str(error) if isinstance(error, GemsError) else format_code_error(error)
            update = skip_skill(name, fault, state, work)
    # The usage of a failed skill counts as well.
    work.usage, warnings = check_usage(so_far)
    work.warnings = [*warnings, *work.warnings]
    return update | usage_update(work)


async def _stream_graph(
    name: str, graph: SkillGraph | None, state: State, context: Context, so_far: dict[str, Any]
) -> None:
    """Run a skill's graph and merge the values after each step into `so_far`."""
    skill = context.skills.get(name)
    if skill is None:
        raise SkillError("It has vanished since it was chosen.", hint="Was its folder moved or changed?")
    if graph is None:
        graph = await asyncio.to_thread(skill_graph, skill)
    files = f"{skill.folder} {skill.stamp} {skill.runs_code}"
    if await _files_have_changed(graph, files):
        graph = graph.copy(update={"checkpointer": False})
    config: RunnableConfig = {"metadata": {_FILES_KEY: files}}
    given = {
        "prompt": state["current_prompt"],
        "user_prompt": state["prompt"],
        "requirements": state["requirements"],
        "options": state["options"],
        "run_id": state.get("run_id") or "",
    }
    async with limit_time(context.skill_timeout_s):
        stream = graph.astream(given, config, context=context, stream_mode="values")
        async with aclosing(cast("AsyncGenerator[Any]", stream)) as states:
            async for values in states:
                if not isinstance(values, dict):
                    kind = type(values).__name__
                    raise SkillError(f"Its graph returned {kind}, but must return a dictionary.")
                so_far.update(values)


async def _files_have_changed(graph: SkillGraph, files: str) -> bool:
    """Return whether the run was interrupted within this skill when its files were different."""
    # Its graph then starts again without checkpoints: the saved ones belong to another graph.
    try:
        stopped = await graph.aget_state(get_config())
    except ValueError:  # no checkpointer
        return False
    before = (stopped.metadata or {}).get(_FILES_KEY)
    return before is not None and before != files
