"""The graph that langgraph.json names."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.base import BaseStore

from gems.errors import NotOfferedError
from tests.support.offers import ASKED, as_environment, kinds
from tests.support.stub import StubServer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def factory() -> AsyncIterator[Any]:
    """The function that langgraph.json names, as a server finds it."""
    module, _, name = json.loads((ROOT / "langgraph.json").read_text())["graphs"]["gems"]["path"].partition(":")
    found = import_module(module)
    yield getattr(found, name)
    await found.shared.aclose()


async def test_runs_without_a_context(factory: Any) -> None:
    graph = await factory()
    result = await graph.ainvoke({"prompt": "two green stars", "seed": 3})
    assert result["stop_reason"] == "passed"
    assert len(result["image"]) == 64


async def test_takes_the_empty_context_and_the_checkpointer_of_a_server(factory: Any) -> None:
    graph = await factory()
    assert graph.checkpointer is None
    graph.checkpointer = InMemorySaver()
    config = {"configurable": {"thread_id": "a thread"}}
    result = await graph.ainvoke({"prompt": "two green stars", "seed": 3}, config, context={})
    assert (await graph.aget_state(config)).values["image"] == result["image"]


async def test_the_thread_names_the_run_in_the_ledger(factory: Any) -> None:
    graph = await factory()
    graph.checkpointer = InMemorySaver()
    await graph.ainvoke(
        {"prompt": "two green stars", "seed": 3}, {"configurable": {"thread_id": "thread-1"}}, context={}
    )
    resources = await import_module(factory.__module__).shared.get()
    assert len(await resources.ledger.drawings("thread-1")) == 1


async def test_the_store_of_the_server_is_the_runs_memory(factory: Any) -> None:
    module, _, name = json.loads((ROOT / "langgraph.json").read_text())["store"]["path"].rpartition(".")
    opened = getattr(import_module(module), name)
    hopeless = {"prompt": "a dozen red circles", "seed": 3, "max_rounds": 2}
    async with opened() as store:
        assert isinstance(store, BaseStore)
        for seed in (3, 4):
            graph = await factory()
            graph.store = store
            result = await graph.ainvoke(hopeless | {"seed": seed})
            resources = await import_module(factory.__module__).shared.get()
            assert await resources.experiences.writer.flush(10) is None
        (first, _second) = await store.asearch(("experiences",), limit=2)
        assert result["recalls"][0]["lessons"][0]["text"].startswith(first.value["text"])


async def test_a_server_without_memory(factory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMS_EXPERIENCE", "off")
    module = import_module(factory.__module__)
    async with module.store() as store:
        for _ in range(2):
            graph = await factory()
            graph.store = store
            result = await graph.ainvoke({"prompt": "a dozen red circles", "seed": 3, "max_rounds": 2})
        assert result.get("recalls", []) == []
        assert await store.asearch(()) == []


async def test_models_and_stores_are_opened_once(factory: Any) -> None:
    shared = import_module(factory.__module__).shared
    await factory()
    first = await shared.get()
    await factory()
    assert await shared.get() is first


async def test_schemas_are_small_and_readable(factory: Any) -> None:
    graph = await factory()
    properties = graph.get_input_jsonschema()["properties"]
    assert {"prompt", "max_rounds", "size", "seed", "profile", "skills"} <= set(properties)
    assert graph.get_context_jsonschema() is None
    assert "image" in graph.get_output_jsonschema()["properties"]


async def test_a_form_names_models_on_offer(factory: Any, stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with StubServer() as far:
        for name, value in as_environment(stub, far).items():
            monkeypatch.setenv(name, value)
        graph = await factory()
        assert {"generator", "judge"} <= graph.get_input_jsonschema()["properties"].keys()
        result = await graph.ainvoke({**ASKED, "generator": "near", "judge": "strict"})
        assert (kinds(stub), kinds(far)) == ({"generate"}, {"chat"})
        assert result["options"]["generator"] == "near"
        graph.checkpointer, thread = InMemorySaver(), {"configurable": {"thread_id": "a thread"}}
        await graph.ainvoke({**ASKED, "generator": "far.2"}, thread)
        drawn = len(stub.calls("generate"))
        plain = await graph.ainvoke({**ASKED, "prompt": "a red heart", "generator": ""}, thread)
        assert "generator" not in plain["options"]
        assert (len(stub.calls("generate")), len(far.calls("images"))) == (drawn, 1)
        with pytest.raises(NotOfferedError, match="'nobody'"):
            await graph.ainvoke({**ASKED, "generator": "nobody"}, thread)
