"""Import the graph.py of trusted skills; its code runs in threads that are abandoned if they hang."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import inspect
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

from langgraph.graph import StateGraph

from gems.errors import SkillError
from gems.observability.redaction import redact
from gems.skills.authoring import SkillContext, Verifier
from gems.skills.discovery import CODE
from gems.skills.files import read_bytes, within
from gems.skills.models import Skill

T = TypeVar("T")
TIMEOUT_S = 20.0
"""Seconds allowed for importing or building."""
_IMPORT_LOCKS: dict[str, threading.Lock] = {}


class IsolatedCall:
    """A function in its own `thread`; `fault` is what it raised, `finished` is called however it ends."""

    def __init__(self, function: Callable[[], Any], name: str, finished: Callable[[], None] = lambda: None) -> None:
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
        return  # A Runnable, not a function.
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


def build_skill_graph(skill: Skill, context: SkillContext) -> StateGraph[Any, Any, Any, Any]:
    """Return the result of the skill's `build`, or raise `SkillError`. Blocking."""
    build = _find_function(skill, "build")
    if build is None:
        raise SkillError(f"{CODE} of the skill {skill.name} has no function build(context).")
    graph = _run_in_thread(skill, "build", lambda: build(context))
    if not isinstance(graph, StateGraph):
        wrong = f"build of the skill {skill.name} returns {type(graph).__name__}"
        raise SkillError(f"{wrong}; it must return a StateGraph that is not compiled.")
    return graph


def build_verifiers(skill: Skill, context: SkillContext) -> list[Verifier]:
    """Return the result of the skill's `verifiers`; empty if it has none. Raises as `build_skill_graph`."""
    make = _find_function(skill, "verifiers")
    if make is None:
        return []
    made = _run_in_thread(skill, "verifiers", lambda: make(context))
    methods = ("takes", "verify")
    if not isinstance(made, list | tuple) or not all(callable(getattr(v, m, None)) for v in made for m in methods):
        wanted = "must return a list of objects with takes, verify"
        raise SkillError(f"verifiers of the skill {skill.name} {wanted}.")
    return list(made)


def _find_function(skill: Skill, name: str) -> Callable[..., Any] | None:
    function = getattr(_load_module(skill), name, None)
    if function is not None and not callable(function):
        raise SkillError(f"{name} in {CODE} of the skill {skill.name} is not a function.")
    return function


def _load_module(skill: Skill) -> ModuleType:
    """Return the module, imported once per state of the file."""
    if skill.folder is None or not skill.code:
        raise SkillError(f"The skill {skill.name} has no {CODE}.")
    if not skill.trusted:
        raise SkillError(
            f"The code of the skill {skill.name} is not run, since {skill.folder} is not trusted.",
            hint="Review the code, then trust its folder with `gems skills trust`.",
        )
    path = within(skill.folder, CODE)
    identity = hashlib.sha256(f"{path}\0{skill.stamp}".encode()).hexdigest()[:16]
    name = f"gems_skill_{skill.name.replace('-', '_')}_{identity}"
    # Concurrent runs must not see a half-loaded module; other skills need not wait.
    with _IMPORT_LOCKS.setdefault(name, threading.Lock()):
        return sys.modules.get(name) or _import_file(skill, skill.folder, path, name)


def _import_file(skill: Skill, folder: Path, path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise SkillError(f"{path} cannot be loaded.")
    module = importlib.util.module_from_spec(spec)

    code = read_bytes(folder, CODE)
    if skill.seen is not None and hashlib.sha256(code).hexdigest() != skill.seen:
        # Between the scan and now.
        raise SkillError(f"{path} was changed after you trusted it.", hint="Trust it again with `gems skills trust`.")

    def load() -> None:
        # Not by the spec's loader: its cache mistakes files of the same second and size for the same one, and
        # would be written into the skill's folder.
        source = compile(code, path, "exec", dont_inherit=True)
        exec(source, module.__dict__)  # noqa: S102 - the user trusts the folder

    # Data classes and type hints look up their module there.
    sys.modules[name] = module
    try:
        _run_in_thread(skill, "its import", load)
    except SkillError:
        sys.modules.pop(name, None)
        raise
    return module


def _run_in_thread(skill: Skill, what: str, function: Callable[[], T]) -> T:
    """Return the result of `function`, run in a thread that is abandoned if it hangs."""
    attempt = IsolatedCall(function, f"skill-{skill.name}")
    attempt.thread.join(TIMEOUT_S)
    if not attempt.is_done:
        raise SkillError(f"{CODE} of the skill {skill.name} did not finish {what} within {TIMEOUT_S:g} s.")
    if (fault := attempt.fault) is not None:
        where = f"{CODE} of the skill {skill.name} failed in {what}"
        raise SkillError(f"{where}: {format_code_error(fault)}") from fault
    return cast("T", attempt.result)


def format_code_error(error: BaseException) -> str:
    """Format an error of a skill's code on one line, with its line in `graph.py`."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename.endswith(CODE)]
    if isinstance(error, SyntaxError) and error.lineno:
        lines.append(error.lineno)
    place = f" (line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {redact(' '.join(str(error).split()))[:300]}{place}"
