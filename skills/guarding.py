"""Isolate third-party steps, so that they can neither exit nor block the process."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import wraps
from typing import Any

from langgraph.graph import StateGraph

from gems.errors import SkillError


class IsolatedCall:
    """A third-party function running in its own thread, which is abandoned if it hangs.

    Args:
        function: The function.
        name: The thread's name.
        finished: Called in that thread when the function ends, however it ends.

    Attributes:
        thread: The thread, to wait for.
        is_done: Whether the function has ended.
        result: Its return value.
        fault: What it raised, including SystemExit.
    """

    def __init__(
        self, function: Callable[[], Any], name: str, finished: Callable[[], None] = lambda: None
    ) -> None:
        self._doing, self._finished = function, finished
        self.is_done = False
        self.result: Any = None
        self.fault: BaseException | None = None
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        try:
            self.result = self._doing()
        except BaseException as error:  # noqa: BLE001 - passed to the caller
            self.fault = error
        self.is_done = True
        self._finished()


def isolate_steps(graph: StateGraph[Any, Any, Any, Any]) -> None:
    """Make sure that a graph's steps and branch functions can only fail.

    An event loop ends if a task raises SystemExit. A plain function would run in one of the loop's threads,
    which the process waits for on exit; here it gets a thread that is abandoned if it hangs.
    """
    for node in graph.nodes.values():
        _isolate_step(node.runnable)
    for branches in graph.branches.values():
        for branch in branches.values():
            _isolate_step(branch.path)


def _isolate_step(step: Any) -> None:
    inner = getattr(step, "builder", None)
    if isinstance(inner, StateGraph):
        isolate_steps(inner)
        return
    if not hasattr(step, "afunc"):
        # A Runnable, not a function.
        return
    plain, waiting = getattr(step, "func", None), step.afunc
    if callable(plain):
        step.afunc = _isolate_function(plain)
    elif callable(waiting) and not inspect.isasyncgenfunction(waiting):
        step.afunc = forbid_exit(waiting)


def forbid_exit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a coroutine function so that `sys.exit` raises a `SkillError`."""

    @wraps(function)
    async def step(*args: Any, **kwargs: Any) -> Any:
        try:
            return await function(*args, **kwargs)
        except SystemExit as error:
            raise _exit_error(error) from None

    return step


def _exit_error(error: BaseException) -> SkillError:
    return SkillError(f"It tried to exit the program: {type(error).__name__}: {error}.")


def _isolate_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function to run in its own thread, which does not keep the process from exiting."""

    @wraps(function)
    async def step(*args: Any, **kwargs: Any) -> Any:
        loop, context = asyncio.get_running_loop(), copy_context()
        done = asyncio.Event()

        def finished() -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(done.set)

        attempt = IsolatedCall(lambda: context.run(function, *args, **kwargs), "skill-step", finished)
        await done.wait()
        if attempt.fault is None:
            return attempt.result
        if isinstance(attempt.fault, Exception):
            raise attempt.fault
        raise _exit_error(attempt.fault)

    return step
