"""Wrap functions as nodes of a LangGraph graph: limits, usage, logs, traces and errors."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from langgraph.errors import GraphBubbleUp
from langgraph.runtime import Runtime

from gems.errors import (
    BudgetReachedError,
    ConfigurationError,
    DeadlineReachedError,
    GemsError,
    InternalError,
    RefusedError,
    RunCancelledError,
)
from gems.nodes.context import NodeContext
from gems.observability.logging import within_run
from gems.observability.redaction import redact, scrub
from gems.observability.tracing import Span
from gems.state import Context
from gems.types import StopReason

logger = logging.getLogger(__name__)

Update = dict[str, Any]
BEGIN = "begin"
"""Name of the first node."""
NodeFunction = Callable[[Any, NodeContext], Awaitable[Update]]


class Node(Protocol):
    """A node as LangGraph calls it."""

    async def __call__(self, state: Any, *, runtime: Runtime[Context]) -> Update:
        """Read the state, do one thing, return only the keys that changed."""
        ...


def as_node(name: str, function: NodeFunction, default: Context | None = None) -> Node:
    """Wrap `function` as a graph node; `default` is the context of runs that are invoked without one.

    The update includes the usage, also if the function fails. Once the run has an image, an error becomes a
    stop reason, so that the best image is returned. Before that it is raised: the run can be resumed here.
    """

    async def node(state: Any, *, runtime: Runtime[Context]) -> Update:
        with node_call(name, state, runtime, default) as (work, span):
            try:
                if not state.get("stop_reason"):
                    # A run that has ended begins nothing new; its end must be written whatever the limits.
                    work.check_limits()
                update = await function(state, work)
            except GraphBubbleUp:
                raise
            except Exception as error:  # noqa: BLE001 - the run must hand back its best image whatever happens
                span.record_error(error)
                # At the beginning, what the state holds is an earlier run's.
                has_image = name != BEGIN and bool(state.get("rounds") or state.get("drawn"))
                update = _stop_update(name, error, has_image=has_image)
        return update | usage_update(work)

    node.__name__ = node.__qualname__ = name
    node.__doc__ = function.__doc__
    return node


def as_step(function: NodeFunction) -> Node:
    """Wrap `function` as a step of a skill's graph, which raises errors to the skill's node."""

    async def step(state: Any, *, runtime: Runtime[Context]) -> Update:
        with node_call(step.__name__, state, runtime) as (work, _):
            work.check_limits()
            update = await function(state, work)
        return update | usage_update(work)

    step.__name__ = step.__qualname__ = getattr(function, "__name__", "step")
    step.__doc__ = function.__doc__
    return step


def get_context(runtime: Runtime[Context], default: Context | None = None) -> Context:
    """Return the run's context or the default; raise `ConfigurationError` if there is neither."""
    context = runtime.context or default
    if context is None:
        raise ConfigurationError(
            "The graph was run without a context.", hint="Pass `context=` when you invoke it, or use gems.service."
        )
    return context


@contextmanager
def node_call(
    name: str, state: Any, runtime: Runtime[Context], default: Context | None = None
) -> Iterator[tuple[NodeContext, Span]]:
    """Provide what a node is given for one call, and name the node in logs and traces."""
    context = get_context(runtime, default)
    thread = (runtime.execution_info.thread_id if runtime.execution_info else None) or ""
    store = runtime.store if context.learning else None
    work = NodeContext.begin(state, context, runtime.stream_writer, thread, store)
    with within_run(work.run_id, work.round), work.span("node", name, node=name) as span:
        yield work, span


def usage_update(work: NodeContext) -> Update:
    """Return the update with the usage and the warnings of a call."""
    # Every key of an update becomes a row in the checkpointer.
    kept = {"usage": work.usage, "warnings": work.warnings}
    return {name: value for name, value in kept.items() if value}


def _stop_update(name: str, error: Exception, *, has_image: bool) -> Update:
    if not isinstance(error, GemsError):
        # Not by `exc_info`: a provider's words in the traceback may repeat a key.
        logger.error("The node %s failed\n%s", name, redact("".join(traceback.format_exception(error))))
        cause = error
        scrub(cause)
        error = InternalError(f"The node {name} failed: {type(cause).__name__}: {cause}.")
        error.__cause__ = cause
    if not has_image:
        raise error
    failure = {"node": name, "error": type(error).__name__, "message": str(error)}
    return {"stop_reason": stop_reason_for(error), "failure": failure}


def stop_reason_for(error: GemsError) -> StopReason:
    """Return the stop reason of a run that an error ended."""
    if isinstance(error, DeadlineReachedError):
        return "deadline"
    if isinstance(error, BudgetReachedError):
        return "budget"
    if isinstance(error, RunCancelledError):
        return "cancelled"
    return "refused" if isinstance(error, RefusedError) else "failed"
