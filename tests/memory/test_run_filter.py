"""The index tells the runs that are wanted, and no others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gems.memory.ledger import Ledger
from gems.memory.locks import run_lock
from gems.memory.run_filter import RunFilter
from gems.resources import open_stores
from gems.settings import load_settings
from tests.support.scripted_models import OPTIONS
from tests.support.scripted_service import House

RUNS: list[tuple[str, str, str, str, float | None]] = [
    ("a", "2026-01-01", "a red cat", "done", 1.0),
    ("b", "2026-01-02", "Ein KÄTZCHEN, 100% weich", "done", 0.5),
    ("c", "2026-01-03", "under_score", "failed", 0.0),
    ("d", "2026-01-04", "underXscore", "interrupted", None),
    ("e", "2026-01-05", "a killed one", "running", None),
    ("f", "2026-01-06", "a live one!", "running", None),
]


@pytest_asyncio.fixture
async def ledger(tmp_path: Path, backend: str | None) -> AsyncIterator[Ledger]:
    async with open_stores(load_settings(home=tmp_path)) as stores:
        ledger = stores.ledger
        for run, day, prompt, status, score in RUNS:
            await ledger.begin(run, prompt, OPTIONS, {})
            await ledger.mark(run, status, None if score is None else {"score": score})  # type: ignore[arg-type]
            stamp = f"{day}T00:00:00.000+00:00"
            await ledger._write("UPDATE runs SET created=? WHERE run=?", (stamp, run))
        yield ledger


def day(number: int) -> datetime:
    return datetime(2026, 1, number, tzinfo=UTC)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, "fedcba"),
        ({"since": day(5)}, "fe"),
        ({"until": day(3)}, "ba"),
        ({"since": day(2), "until": day(2) + timedelta(seconds=1)}, "b"),
        ({"since": day(2).astimezone()}, "fedcb"),
        ({"status": "done"}, "ba"),
        ({"status": "interrupted", "working": frozenset("f")}, "ed"),
        ({"status": "running", "working": frozenset("f")}, "f"),
        ({"status": "running"}, ""),
        ({"status": "interrupted"}, "fed"),
        ({"text": "RED"}, "a"),
        ({"text": "kätzchen"}, "b"),
        ({"text": "%"}, "b"),
        ({"text": "r_s"}, "c"),
        ({"text": "!"}, "f"),
        ({"text": "'; DROP TABLE runs; --"}, ""),
        ({"min_score": 0.5}, "ba"),
        ({"min_score": 0.0}, "cba"),
        ({"min_score": 0.5, "text": "cat", "status": "done"}, "a"),
    ],
)
async def test_wanted_runs(ledger: Ledger, wanted: Any, found: str) -> None:
    assert "".join(row["run_id"] for row in await ledger.runs(None, RunFilter(**wanted))) == found


async def test_limit_counts_what_is_wanted(ledger: Ledger) -> None:
    wanted = RunFilter(status="done")
    assert [row["run_id"] for row in await ledger.runs(1, wanted)] == ["b"]


async def test_each_run_is_read_once_page_by_page(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gems.memory.ledger._PAGE", 2)
    await ledger._write("UPDATE runs SET created=?", ("2026-01-01T00:00:00.000+00:00",))
    await ledger._write("UPDATE runs SET created=? WHERE run=?", ("2026-01-02T00:00:00.000+00:00", "b"))
    assert [row["run_id"] async for row in ledger.each_run()] == [*"acdefb"]
    assert [row["run_id"] async for row in ledger.each_run(RunFilter(status="done"))] == [*"ab"]


async def test_service_knows_which_runs_are_worked_on(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    async with house.gems() as gems:
        for run in ("killed", "alive"):
            await gems.resources.ledger.begin(run, "a cat", OPTIONS, {})
        with run_lock(gems.settings.locks_path, "alive"):
            for status, run in (("running", "alive"), ("interrupted", "killed")):
                rows = await gems.runs(5, RunFilter(status=status))  # type: ignore[arg-type]
                assert [(row["run_id"], row["status"]) for row in rows] == [(run, status)]
