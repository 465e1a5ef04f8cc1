"""One process at a time works on a run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gems.errors import RunBusyError, StorageError
from gems.memory.locks import hold_run_lock, is_run_locked, run_lock
from tests.support.scripted_service import held_elsewhere


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of `run` until it is told to let go."""
    with held_elsewhere(tmp_path, "run") as process:
        yield process


def test_second_holder_is_turned_away(tmp_path: Path) -> None:
    with run_lock(tmp_path, "run"):
        assert is_run_locked(tmp_path, "run")
        with pytest.raises(RunBusyError, match="run"), run_lock(tmp_path, "run"):
            pytest.fail("Two hold the same lock.")
        assert not is_run_locked(tmp_path, "other")
    assert not is_run_locked(tmp_path, "run")


async def test_second_holder_is_turned_away_without_blocking_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("The loop stood still."))
    async with hold_run_lock(tmp_path, "run"):
        assert is_run_locked(tmp_path, "run")
        with pytest.raises(RunBusyError, match="run"):
            async with hold_run_lock(tmp_path, "run"):
                pytest.fail("Two hold the same lock.")
    assert not is_run_locked(tmp_path, "run")


async def test_lock_that_is_let_go_of_in_time_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    with ExitStack() as held:
        held.enter_context(run_lock(tmp_path, "run"))

        async def let_go(seconds: float) -> None:
            waited.append(seconds)
            held.close()

        monkeypatch.setattr("gems.memory.locks.asyncio.sleep", let_go)
        async with hold_run_lock(tmp_path, "run"):
            assert is_run_locked(tmp_path, "run")
    assert len(waited) == 1


def test_asking_leaves_nothing_behind(tmp_path: Path) -> None:
    assert not is_run_locked(tmp_path / "locks", "run")
    assert list(tmp_path.iterdir()) == []


def test_lock_is_let_go_of_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), run_lock(tmp_path, "run"):
        _ = 1 / 0
    assert not is_run_locked(tmp_path, "run")


def test_another_process_is_respected_until_it_lets_go(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert is_run_locked(tmp_path, "run")
    with pytest.raises(RunBusyError), run_lock(tmp_path, "run"):
        pytest.fail("Two processes hold the same lock.")
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "free\n"
    with run_lock(tmp_path, "run"):
        assert is_run_locked(tmp_path, "run")


def test_killed_process_holds_nothing(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait(timeout=300)
    assert not is_run_locked(tmp_path, "run")


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("")
    with pytest.raises(StorageError), run_lock(tmp_path / "locks", "run"):
        pytest.fail("There is no lock file.")
