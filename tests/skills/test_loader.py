"""`graph.py`: loaded by its path, and never trusted to behave."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from gems.errors import SkillError
from gems.nodes.skills import skill_graph, skill_verifiers
from gems.skills import loader
from gems.skills.loader import isolate_steps
from tests.support.skill_folders import changed, coded, skill_in, write

NO_GRAPH = {
    "syntax": ("def build(", "line 1"),
    "import": ("import no_such_module_at_all", "no_such_module_at_all.* \\(line 1\\)"),
    "raises": ("\nraise ValueError('on import')", "ValueError: on import \\(line 2\\)"),
    "exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "empty": ("", "no function build"),
    "constant": ("build = 5", "is not a function"),
    "build raises": ("def build(context):\n    return 1 / 0", "ZeroDivisionError.* \\(line 2\\)"),
    "build exits": ("def build(context):\n    raise SystemExit('bye')", "SystemExit: bye"),
    "no arguments": ("def build(): ...", "TypeError"),
    "nothing": ("def build(context): ...", "returns NoneType"),
    "text": ("def build(context): return 'x'", "returns str"),
    "compiled": ("def build(context): return context.default().compile()", "not compiled"),
    "no entry point": ("def build(context):\n    return context.graph()", "cannot be compiled"),
    "no such node": (
        "def build(context):\n    made = context.default()\n    made.add_edge('keep', 'x')\n    return made",
        "cannot be compiled",
    ),
    "secret": ("raise ValueError('api_key=abcdefgh1234')", "\\[secret\\]"),
    "zeros": ("\0", "."),
}


@pytest.fixture(autouse=True)
def modules() -> Iterator[None]:
    """What is imported is forgotten."""
    yield
    for name in [name for name in sys.modules if name.startswith("gems_skill_")]:
        del sys.modules[name]


@pytest.mark.parametrize(("source", "told"), NO_GRAPH.values(), ids=NO_GRAPH)
def test_code_without_a_graph_is_told(source: str, told: str, tmp_path: Path) -> None:
    skill = coded(tmp_path / "mine", source)
    for _ in range(2):
        with pytest.raises(SkillError, match=told) as caught:
            skill_graph(skill)
    assert "mine" in str(caught.value)


def test_code_that_is_no_file_or_too_large_is_not_read(tmp_path: Path) -> None:
    for name, told in (("pipe", "not a regular file"), ("folder", "cannot be read"), ("large", "1,000,000")):
        path = write(tmp_path / name) / "graph.py"
        if name == "pipe":
            os.mkfifo(path)
        elif name == "folder":
            path.mkdir()
        else:
            path.write_bytes(b"#" * 1_000_001)
        with pytest.raises(SkillError, match=told):
            skill_graph(skill_in(path.parent))


@pytest.mark.parametrize("where", ["import", "build"])
def test_code_that_hangs_is_left_behind(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "TIMEOUT_S", 0.05)
    release = threading.Event()
    monkeypatch.setattr(loader, "release", release, raising=False)
    waiting = "from gems.skills import loader\n{}loader.release.wait()\n"
    source = waiting.format("") if where == "import" else waiting.format("def build(context): ")
    with pytest.raises(SkillError, match="did not finish"):
        skill_graph(coded(tmp_path / "mine", source))
    release.set()


def test_code_is_imported_once_for_each_state_of_the_file(tmp_path: Path) -> None:
    source = "NUMBER = {}\ndef build(context):\n    return context.default()\n"
    folder = write(tmp_path / "mine", {"graph.py": source.format(1)})
    first = skill_in(folder)
    assert loader._load_module(first) is loader._load_module(skill_in(folder))
    # Of the same size and within the same second, where Python's own cache sees no difference.
    changed(folder / "graph.py", source.format(2))
    second = skill_in(folder)
    assert (loader._load_module(first).NUMBER, loader._load_module(second).NUMBER) == (1, 2)
    assert sorted(path.name for path in folder.iterdir()) == ["SKILL.md", "graph.py"]


def test_modules_of_two_skills_are_two(tmp_path: Path) -> None:
    one, two = (coded(tmp_path / place / "mine", f"PLACE = {place!r}") for place in ("a", "b"))
    assert (loader._load_module(one).PLACE, loader._load_module(two).PLACE) == ("a", "b")


def test_data_classes_and_hints_find_their_module(tmp_path: Path) -> None:
    source = """
from __future__ import annotations
from dataclasses import dataclass
from typing_extensions import TypedDict
from langgraph.graph import StateGraph, START, END

class State(TypedDict, total=False):
    prompt: str

@dataclass
class Box:
    text: str

def build(context):
    async def step(state: State) -> State:
        return {"prompt": Box("boxed").text}
    graph = StateGraph(State)
    graph.add_node("step", step)
    graph.add_edge(START, "step")
    graph.add_edge("step", END)
    return graph
"""
    assert "step" in skill_graph(coded(tmp_path / "mine", source)).nodes


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def verifiers(context): return None", "must return a list"),
        ("def verifiers(context): return [5]", "must return a list"),
        ("def verifiers(context): raise KeyError('x')", "KeyError"),
        ("verifiers = []", "is not a function"),
    ],
)
def test_verifiers_that_are_none(source: str, told: str, tmp_path: Path) -> None:
    skill = coded(tmp_path / "mine", source)
    with pytest.raises(SkillError, match=told):
        skill_verifiers(skill)


def test_no_verifiers_where_there_is_no_function(tmp_path: Path) -> None:
    assert skill_verifiers(coded(tmp_path / "mine", "")) == []
    assert skill_verifiers(skill_in(write(tmp_path / "other"))) == []


async def exits(state: Any) -> Any:
    sys.exit(1)


def exits_plainly(state: Any) -> Any:
    sys.exit(1)


def interrupts(state: Any) -> Any:
    raise KeyboardInterrupt


class Exits:
    async def __call__(self, state: Any) -> Any:
        sys.exit(1)


@pytest.mark.parametrize("step", [exits, exits_plainly, interrupts, Exits()])
@pytest.mark.parametrize("where", ["node", "edge", "inner"])
async def test_no_step_ends_the_program(step: Any, where: str) -> None:
    def graph_of(node: Any) -> Any:
        graph = StateGraph(dict)
        graph.add_node("step", node)
        graph.add_edge(START, "step")
        graph.add_conditional_edges("step", step if where == "edge" else lambda _: END, ["step", END])
        return graph

    graph = graph_of((lambda _: {}) if where == "edge" else step)
    if where == "inner":
        graph = graph_of(graph.compile())
    isolate_steps(graph)
    with pytest.raises(SkillError, match="tried to exit the program"):
        await graph.compile().ainvoke({"a": 1})


class Callable:
    async def __call__(self, state: Any) -> Any:
        return {"a": 2}


def generates(state: Any) -> Iterator[Any]:
    yield {"a": 2}


async def generates_later(state: Any) -> AsyncIterator[Any]:
    yield {"a": 2}


def takes_more(state: Any, config: RunnableConfig, *, runtime: Runtime[None]) -> Any:
    return {"a": len(config["metadata"]["two"]) if runtime else 0}


@pytest.mark.parametrize(
    "step",
    [
        lambda state: {"a": 2},
        RunnableLambda(lambda state: {"a": 2}),
        partial(lambda more, state: {"a": more}, 2),
        Callable(),
        generates,
        generates_later,
        takes_more,
    ],
)
async def test_steps_of_every_kind_still_work(step: Any) -> None:
    graph = StateGraph(dict)
    graph.add_node("step", step)
    graph.add_edge(START, "step")
    isolate_steps(graph)
    assert await graph.compile().ainvoke({"a": 1}, {"metadata": {"two": "ab"}}) == {"a": 2}


async def test_a_step_that_hangs_keeps_no_thread_of_the_loop() -> None:
    release, started = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def hangs(state: Any) -> Any:
        threads.append(threading.current_thread())
        started.set()
        release.wait()
        return {}

    graph = StateGraph(dict)
    graph.add_node("step", hangs)
    graph.add_edge(START, "step")
    isolate_steps(graph)
    running = asyncio.create_task(graph.compile().ainvoke({"a": 1}))
    await asyncio.to_thread(started.wait)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    release.set()
    assert threads[0].daemon
