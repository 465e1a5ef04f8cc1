"""`gems runs` with filters, `gems fork`, `gems delete`, `gems gc`, `gems report`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from gems.apps.cli.schemas import ReportFile
from gems.memory.locks import run_lock
from gems.results import RunResult
from gems.runs.cleanup import Deletion, Garbage
from tests.support.terminal import HOPELESS, PROMPT, gems, here


def drawn(prompt: str = HOPELESS, *more: str) -> dict[str, Any]:
    done = here("run", prompt, "--rounds", "2", "--seed", "7", "--json", *more)
    assert done.exit_code in (0, 3), done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.fixture
def run() -> dict[str, Any]:
    """A finished run that lacks something."""
    return drawn()


def told(*arguments: str, code: int = 0, **more: Any) -> Any:
    done = here(*arguments, "--json", **more)
    assert done.exit_code == code, done.stderr
    return json.loads(done.stdout)


def listed(*arguments: str) -> list[str]:
    return [row["prompt"] for row in told("runs", *arguments)["runs"]]


def test_runs_are_found(run: dict[str, Any]) -> None:
    drawn(PROMPT)
    assert listed() == [PROMPT, HOPELESS]
    assert listed("--text", "GREEN") == [PROMPT]
    assert listed("--min-score", "0.9") == [PROMPT]
    assert listed("--status", "failed") == []
    assert listed("--status", "done", "--since", "1h", "--limit", "1") == [PROMPT]
    assert listed("--until", "1h") == []
    assert listed("--since", "2020-01-01", "--until", "2100-01-01", "--text", "dozen") == [HOPELESS]
    done = here("runs", "--text", "nothing like it")
    assert (done.stdout, done.exit_code) == ("", 0)
    assert "No run matches." in done.stderr


def test_wrong_moments_are_usage_errors() -> None:
    done = here("runs", "--since", "whenever")
    assert done.exit_code == 2
    assert "Invalid date or age: 'whenever'" in done.stderr
    assert "2026-01-31" in done.stderr


def test_fork_goes_on_elsewhere(run: dict[str, Any]) -> None:
    result = told("fork", run["run_id"], "--round", "1", "--prompt", PROMPT, "--rounds", "3", code=3)
    assert RunResult.model_validate(result).forked_from == {"run_id": run["run_id"], "round": 1}
    assert [turn["prompt"] for turn in result["rounds"]][:2] == [HOPELESS, PROMPT]
    assert result["rounds"][0] == run["rounds"][0]
    shown = here("show", "last").stdout
    assert f"forked from: {run['run_id']} after round 1\n" in shown
    assert told("runs", "-n", "1")["runs"][0]["forked_from"] == result["forked_from"]
    progress = here("fork", "last", "--round", "2").stderr
    assert f"forked from {result['run_id']} after round 2" in progress
    assert "round 1:" not in progress


def test_fork_of_no_such_round(run: dict[str, Any]) -> None:
    done = here("fork", "last", "--round", "9")
    assert done.exit_code == 2
    assert "has 2 judged rounds" in done.stderr
    assert len(told("runs")["runs"]) == 1


def test_delete_asks_first(run: dict[str, Any]) -> None:
    declined = gems("delete", run["run_id"], given="n\n")
    assert (declined.returncode, declined.stdout) == (1, "")
    assert f"Delete {run['run_id']}?" in declined.stderr
    assert "2 images" in declined.stderr
    assert "Nothing was changed." in declined.stderr
    assert gems("delete", "last", given="").returncode == 1
    assert here("show", run["run_id"]).exit_code == 0
    agreed = gems("delete", "last", given="y\n")
    assert (agreed.returncode, agreed.stdout) == (0, f"deleted {run['run_id']}\n")
    assert here("show", run["run_id"]).exit_code == 2
    assert not Path(run["path"]).exists()


def test_delete_as_json(run: dict[str, Any]) -> None:
    assert "--yes" in told("delete", "last", code=2)["error"]["hint"]
    looked = told("delete", "last", "--dry-run")
    deleted = told("delete", "last", "--yes")
    assert Deletion.model_validate(deleted).model_dump() == looked | {"done": True}
    assert (looked["images"], looked["done"]) == (2, False)
    assert told("runs")["runs"] == []


def test_delete_of_a_busy_run(run: dict[str, Any]) -> None:
    with run_lock(Path(os.environ["GEMS_HOME"]) / "locks", run["run_id"]):
        done = here("delete", run["run_id"], "--yes")
    assert done.exit_code == 2
    assert "is already in progress" in done.stderr


def litter() -> Path:
    """An old image that nobody refers to."""
    path = Path(os.environ["GEMS_HOME"]) / "images" / "ab" / f"{'ab' * 32}.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x" * 2048)
    os.utime(path, (time.time() - 10_000,) * 2)
    return path


def test_gc_asks_first(run: dict[str, Any]) -> None:
    nothing = here("gc")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    path = litter()
    declined = gems("gc", given="n\n")
    assert declined.returncode == 1
    assert "1 image (2.0 kB) that no run uses" in declined.stderr
    assert here("gc", "--dry-run").exit_code == 0
    assert path.exists()
    agreed = gems("gc", given="y\n")
    assert (agreed.returncode, agreed.stdout) == (0, "deleted\n")
    assert not path.exists()
    assert here("show", run["run_id"]).exit_code == 0


def test_gc_as_json(run: dict[str, Any]) -> None:
    path = litter()
    assert told("gc", code=2)["error"]["type"] == "OptionError"
    assert Garbage.model_validate(told("gc", "--dry-run")).images == 1
    assert told("gc", "--yes", "--min-age", "1w")["images"] == 0
    assert path.exists()
    assert told("gc", "--yes")["image_bytes"] == 2048
    assert not path.exists()


def test_report_is_written(run: dict[str, Any], tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.html"
    done = here("report", "last", "-o", str(target))
    assert (done.exit_code, done.stdout) == (0, f"{target}\n")
    page = target.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert HOPELESS in page
    written = told("report", run["run_id"])
    assert ReportFile.model_validate(written).path == str(tmp_path / f"{run['run_id']}.html")
    assert written["bytes"] == Path(written["path"]).stat().st_size
    piped = gems("report", "last", "--out", "-")
    assert (piped.returncode, piped.stdout.rstrip("\n")) == (0, page.rstrip("\n"))


def test_report_that_cannot_be_written(run: dict[str, Any], tmp_path: Path) -> None:
    done = here("report", "last", "-o", str(tmp_path))
    assert done.exit_code == 2
    assert "is a folder" in done.stderr
    (tmp_path / "file").touch()
    assert here("report", "last", "-o", str(tmp_path / "file" / "report.html")).exit_code == 1
    assert here("report", "nothing").exit_code == 2
