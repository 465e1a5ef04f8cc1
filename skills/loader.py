"""Load a skill's `graph.py` by its path, from trusted folders only, and isolated from the process."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

from langgraph.graph import StateGraph

from gems.errors import SkillError
from gems.observability.redaction import redact
from gems.skills.authoring import SkillContext, Verifier
from gems.skills.discovery import CODE
from gems.skills.files import read_bytes, within
from gems.skills.guarding import IsolatedCall
from gems.skills.models import Skill

T = TypeVar("T")
TIMEOUT_S = 20.0
"""Seconds allowed for importing or building."""
_IMPORT_LOCKS: dict[str, threading.Lock] = {}


def build_skill_graph(skill: Skill, context: SkillContext) -> StateGraph[Any, Any, Any, Any]:
    """Return the result of the skill's `build`. Blocking.

    Raises `SkillError` if the code cannot be loaded, raises, takes too long, or returns something else.
    """
    build = _find_function(skill, "build")
    if build is None:
        raise SkillError(f"{CODE} of the skill {skill.name} has no function build(context).")
    graph = _run_in_thread(skill, "build", lambda: build(context))
    if not isinstance(graph, StateGraph):
        raise SkillError(
            f"build of the skill {skill.name} returns {type(graph).__name__}; it must return a StateGraph "
            "that is not compiled."
        )
    return graph


def build_verifiers(skill: Skill, context: SkillContext) -> list[Verifier]:
    """Return the result of the skill's `verifiers`; empty if it has no such function. Blocking.

    Raises as `build_skill_graph`.
    """
    make = _find_function(skill, "verifiers")
    if make is None:
        return []
    made = _run_in_thread(skill, "verifiers", lambda: make(context))
    if not isinstance(made, list | tuple) or not all(_is_verifier(item) for item in made):
        raise SkillError(
            f"verifiers of the skill {skill.name} must return a list of objects with takes, verify."
        )
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
    folder = skill.folder
    path = within(folder, CODE)
    identity = hashlib.sha256(f"{path}\0{skill.stamp}".encode()).hexdigest()[:16]
    name = f"gems_skill_{skill.name.replace('-', '_')}_{identity}"
    # Concurrent runs must not see a half-loaded module; other skills need not wait.
    with _IMPORT_LOCKS.setdefault(name, threading.Lock()):
        return sys.modules.get(name) or _import_file(skill, folder, path, name)


def _import_file(skill: Skill, folder: Path, path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise SkillError(f"{path} cannot be loaded.")
    module = importlib.util.module_from_spec(spec)

    def load() -> None:
        # Not by the spec's loader: its cache mistakes files of the same second and size for the same one, and
        # would be written into the skill's folder.
        source = compile(read_bytes(folder, CODE), path, "exec", dont_inherit=True)
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
        raise SkillError(
            f"{CODE} of the skill {skill.name} failed in {what}: {format_code_error(fault)}"
        ) from fault
    return cast("T", attempt.result)


def format_code_error(error: BaseException) -> str:
    """Format an error of a skill's code on one line, with its line in `graph.py`."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(CODE)
    ]
    if isinstance(error, SyntaxError) and error.lineno:
        lines.append(error.lineno)
    place = f" (line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {redact(' '.join(str(error).split()))[:300]}{place}"


def _is_verifier(item: object) -> bool:
    return callable(getattr(item, "takes", None)) and callable(getattr(item, "verify", None))
