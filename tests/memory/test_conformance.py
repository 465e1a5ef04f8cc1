"""The checkpointer passes LangGraph's own suite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.serde.types import ERROR

from gems.memory.trajectory import open_checkpointer
from gems.types import ImageRequest

# What the loop relies on; the library's SQLite saver has none of the others.
NEEDED = ["delete_thread", "get_tuple", "list", "put", "put_writes"]


async def test_checkpointer_conforms(tmp_path: Path) -> None:
    numbers = count()

    @checkpointer_test(name="gems")
    async def opened() -> AsyncIterator[Any]:
        async with open_checkpointer(tmp_path / f"{next(numbers)}.sqlite3") as saver:
            yield saver

    report = await validate(opened)
    failures = {name: result.failures for name, result in report.results.items() if result.failures}
    assert failures == {}
    passed = sorted(name for name, result in report.results.items() if result.passed)
    assert set(NEEDED) <= set(passed)
    assert sum(result.tests_passed for result in report.results.values()) > 20


async def test_no_class_of_ours_comes_to_life(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    value = ImageRequest(prompt="a cat", seed=7, width=64, height=64)
    async with open_checkpointer(tmp_path / "c.sqlite3") as saver:
        read = saver.serde.loads_typed(saver.serde.dumps_typed({"kept": value}))
    assert not isinstance(read["kept"], ImageRequest)


async def test_plain_values_come_back_as_they_were(tmp_path: Path) -> None:
    value = {"rounds": [{"score": 0.5, "prompt": "猫", "best": None, "passed": True}], "none": []}
    async with open_checkpointer(tmp_path / "c.sqlite3") as saver:
        assert saver.serde.loads_typed(saver.serde.dumps_typed(value)) == value


async def test_nothing_is_kept_of_a_task_that_was_cancelled(tmp_path: Path) -> None:
    config: Any = {"configurable": {"thread_id": "run", "checkpoint_ns": ""}}
    async with open_checkpointer(tmp_path / "c.sqlite3") as saver:
        config = await saver.aput(config, empty_checkpoint(), {}, {})
        # The write that leads to the next node is missing here.
        await saver.aput_writes(config, [("rounds", [1]), (ERROR, asyncio.CancelledError())], "cancelled")
        await saver.aput_writes(config, [("rounds", [2]), ("branch:to:judge", None)], "finished")
        found = await saver.aget_tuple(config)
    assert found is not None
    kept = [(task, channel) for task, channel, _value in found.pending_writes or ()]
    assert sorted(kept) == [("cancelled", ERROR), ("finished", "branch:to:judge"), ("finished", "rounds")]
