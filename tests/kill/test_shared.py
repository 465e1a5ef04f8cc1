"""Runs that are killed where several processes could go on with them, in files and in PostgreSQL."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from gems.service import Gems
from gems.settings import Settings
from tests.support.pausable_models import PATIENCE_S, Holds, World, images_asked_for, questions_asked, wait_for_rows
from tests.support.result_invariants import unchanging
from tests.support.run_processes import finished, worker
from tests.support.stub import StubServer


def second_image(task: str, asked: Any) -> bool:
    return task == "image" and asked.prompt.endswith(" v2")


def second_reflection(task: str, asked: Any) -> bool:
    return task == "reflect" and " v2" in str(asked)


def anything(task: str, asked: Any) -> bool:
    return True


async def killed(home: Path, stub: StubServer, world: World, holds: Holds, url: str | None, rows: int) -> str:
    """The id of a run that was killed while a request was held, so many drawings being in the ledger."""
    world.hold(holds)
    with worker(home, stub) as process:
        assert world.held.wait(PATIENCE_S), "The request to hold never came."
        wait_for_rows(home, "drawings", rows, url)
        process.kill()
        process.wait(PATIENCE_S)
    world.release()
    async with Gems(Settings(home=home)) as gems:
        ((run_id, status),) = [(row["run_id"], row["status"]) for row in await gems.runs()]
    assert status == "interrupted"
    return run_id


@pytest.mark.parametrize(("holds", "rows"), [(second_image, 1), (second_reflection, 2)])
async def test_killed_run_in_postgres_goes_on_and_pays_for_nothing_twice(
    holds: Holds, rows: int, tmp_path: Path, stub: StubServer, world: World, database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with StubServer(chat=World().chat, images=World().draw) as other:
        expected, usual = finished(tmp_path / "undisturbed", other), list(other.requests)
    monkeypatch.setenv("GEMS_CHECKPOINT", database)
    run_id = await killed(tmp_path / "home", stub, world, holds, database, rows)
    resumed = finished(tmp_path / "home", stub, run_id)
    assert unchanging(resumed) == unchanging(expected)
    again = images_asked_for(stub.requests) - images_asked_for(usual)
    repeated = questions_asked(stub.requests) - questions_asked(usual)
    assert again.total() + repeated.total() == 1, "only what was held is asked for again"


async def test_of_two_processes_that_resume_a_run_at_once_one_is_turned_away(
    tmp_path: Path, stub: StubServer, world: World, backend: str | None
) -> None:
    home = tmp_path / "home"
    run_id = await killed(home, stub, world, second_image, backend, 1)
    again = World()
    # Whoever comes first is held, so that the other one cannot come after its end.
    again.hold(anything)
    with StubServer(chat=again.chat, images=again.draw) as waiting:
        with worker(home, waiting, run_id) as one, worker(home, waiting, run_id) as other:
            loser, winner = first_to_end(one, other)
            assert loser.returncode != 0
            assert f"RunBusyError: The run {run_id} is already in progress." in loser.stderr.read()
            assert again.held.wait(PATIENCE_S), "The winner never went on."
            assert winner.poll() is None
            again.release()
            told, wrong = winner.communicate(timeout=PATIENCE_S)
        assert (winner.returncode, '"stop_reason": "passed"' in told) == (0, True), wrong
        assert set(images_asked_for(waiting.requests).values()) == {1}


def first_to_end(one: Any, other: Any) -> tuple[Any, Any]:
    """The process that ends first, and the one that goes on."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for ended, left in ((one, other), (other, one)):
            if ended.poll() is not None:
                return ended, left
        time.sleep(0.02)
    raise TimeoutError("Both processes go on.")
