"""The checkpointer passes LangGraph's own suite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import ERROR
from pydantic import SecretStr

from gems.errors import ModelFilesError, UnreachableError
from gems.generation import ImageRequest
from gems.memory.checkpointer import open_checkpointer
from gems.resources import open_stores
from gems.settings import Settings
from tests.support.scripted_service import PATIENCE_S

Opening = Callable[[], AbstractAsyncContextManager[Any]]

# What the loop relies on, and what LangGraph's server can use besides.
NEEDED = ["delete_thread", "get_tuple", "list", "put", "put_writes"]
SERVED = ["copy_thread", "delete_for_runs"]


@pytest.fixture
def opening(backend: str | None, tmp_path: Path, request: pytest.FixtureRequest) -> Opening:
    """Opens an empty checkpointer each time."""
    numbers = count()

    @asynccontextmanager
    async def opened() -> AsyncIterator[Any]:
        with ExitStack() as stack:
            url = None
            if backend is not None:
                url = SecretStr(stack.enter_context(request.getfixturevalue("postgres").database()))
            home = tmp_path / str(next(numbers))
            async with open_stores(Settings(home=home, checkpoint=url)) as stores:
                yield stores.checkpointer

    return opened


async def test_checkpointer_conforms(opening: Opening, backend: str | None) -> None:

    @checkpointer_test(name="gems")
    async def opened() -> AsyncIterator[Any]:
        async with opening() as saver:
            yield saver

    report = await validate(opened)
    failures = {name: result.failures for name, result in report.results.items() if result.failures}
    assert failures == {}
    passed = sorted(name for name, result in report.results.items() if result.passed)
    # The library's saver for PostgreSQL has none of the others.
    assert {*NEEDED, *(SERVED if backend is None else ())} <= set(passed)
    assert sum(result.tests_passed for result in report.results.values()) > 20


async def test_no_class_of_ours_comes_to_life(opening: Opening, caplog: pytest.LogCaptureFixture) -> None:
    value = ImageRequest(prompt="a cat", seed=7, width=64, height=64)
    async with opening() as saver:
        read = saver.serde.loads_typed(saver.serde.dumps_typed({"kept": value}))
    assert not isinstance(read["kept"], ImageRequest)


async def test_what_a_node_raised_is_read_as_text_without_a_warning(
    opening: Opening, caplog: pytest.LogCaptureFixture
) -> None:
    async with opening() as saver:
        for error in (
            ModelFilesError("No such model.", hint="Download it."),
            UnreachableError("No answer."),
            OSError(5),
        ):
            kind, data = saver.serde.dumps_typed(error)
            assert saver.serde.loads_typed((kind, data)) == f"{type(error).__name__}: {error}"
    assert caplog.records == []


async def test_plain_values_come_back_as_they_were(opening: Opening) -> None:
    value = {"rounds": [{"score": 0.5, "prompt": "猫", "best": None, "passed": True}], "none": []}
    async with opening() as saver:
        assert saver.serde.loads_typed(saver.serde.dumps_typed(value)) == value


async def test_nothing_is_kept_of_a_task_that_was_cancelled(opening: Opening) -> None:
    config: Any = {"configurable": {"thread_id": "run", "checkpoint_ns": ""}}
    async with opening() as saver:
        config = await saver.aput(config, empty_checkpoint(), {}, {})
        # The write that leads to the next node is missing here.
        await saver.aput_writes(config, [("rounds", [1]), (ERROR, asyncio.CancelledError())], "cancelled")
        await saver.aput_writes(config, [("rounds", [2]), ("branch:to:judge", None)], "finished")
        found = await saver.aget_tuple(config)
    assert found is not None
    kept = [(task, channel) for task, channel, _value in found.pending_writes or ()]
    assert sorted(kept) == [("cancelled", ERROR), ("finished", "branch:to:judge"), ("finished", "rounds")]


async def test_closing_waits_for_a_write_under_way(tmp_path: Path) -> None:
    """As LangGraph leaves one behind when a run is cancelled."""
    config: Any = {"configurable": {"thread_id": "run", "checkpoint_ns": ""}}
    path = tmp_path / "checkpoints.sqlite3"
    async with open_checkpointer(path) as saver:
        config = await saver.aput(config, empty_checkpoint(), {}, {})
        write = asyncio.create_task(saver.aput_writes(config, [("rounds", [1])], "task"))
        await asyncio.sleep(0)
        assert saver.lock.locked()
    await write
    # What comes later fails, rather than waiting for ever.
    with pytest.raises(ValueError, match="no active connection"):
        await asyncio.wait_for(saver.aput_writes(config, [("rounds", [2])], "late"), PATIENCE_S)
    async with open_checkpointer(path) as saver:
        found = await saver.aget_tuple(config)
    assert found is not None
    assert found.pending_writes == [("task", "rounds", [1])]


async def test_text_comes_back_as_it_was(opening: Opening) -> None:
    """Whatever a model writes: no database may take offence at it."""
    config: Any = {"configurable": {"thread_id": "run", "checkpoint_ns": ""}}
    text = "a\0b\ue000c\ue0000 猫 \ue000\0"
    checkpoint = empty_checkpoint() | {
        "channel_values": {"current_prompt": text, "plan": {"prompt": text}},
        "channel_versions": {"current_prompt": "1", "plan": "1"},
    }
    async with opening() as saver:
        config = await saver.aput(config, checkpoint, {}, {"current_prompt": "1", "plan": "1"})
        found = await saver.aget_tuple(config)
    assert found.checkpoint["channel_values"] == {"current_prompt": text, "plan": {"prompt": text}}


async def test_values_are_compressed_and_old_ones_are_read(opening: Opening) -> None:
    value = {"text": "I look at every corner. " * 100}
    async with opening() as saver:
        kind, data = saver.serde.dumps_typed(value)
        assert kind == "zlib+msgpack"
        assert len(data) < 200
        assert saver.serde.loads_typed((kind, data)) == value
        plain = JsonPlusSerializer().dumps_typed(value)
        assert plain[0] == "msgpack"
        assert saver.serde.loads_typed(plain) == value
        for damaged in (data[:-3], b"no zlib"):
            with pytest.raises(ValueError, match=r"truncated|decompressed"):
                saver.serde.loads_typed((kind, damaged))
