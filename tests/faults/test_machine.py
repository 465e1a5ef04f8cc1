"""The machine has a disk that is full, or a home that cannot be written; nothing is pretended here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.pausable_models import PATIENCE_S, World, images_asked_for
from tests.support.scripted_service import content
from tests.support.stub import StubServer

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and rights as Linux has them")


@pytest.fixture
def stub() -> Iterator[StubServer]:
    world = World()
    with StubServer(chat=world.chat, images=world.draw) as stub:
        yield stub


def worked(home: Path, stub: StubServer, wrong: str, run_id: str = "") -> tuple[dict[str, Any], str]:
    """What the process came to, and what it wrote to stderr."""
    command = [sys.executable, "-m", "tests.support.faulty_machine", str(home), stub.base_url, run_id, wrong]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found, done.stderr


def test_disk_that_fills_up_in_a_run_takes_no_image_and_nothing_is_drawn_twice(
    tmp_path: Path, stub: StubServer
) -> None:
    stopped, said = worked(tmp_path / "home", stub, "full")
    assert (stopped["stop_reason"], stopped["failure"]["error"]) == ("failed", "StorageError")
    assert content(stopped["path"]).startswith(b"\x89PNG"), "the image as it was stored before"
    assert any("The result could not be written" in warning for warning in stopped["warnings"])
    assert "GEMS_HOME" in stopped["failure"]["message"]
    assert "Traceback" not in said
    resumed, _ = worked(tmp_path / "home", stub, "nothing", stopped["run_id"])
    assert (resumed["stop_reason"], len(resumed["rounds"])) == ("passed", 3)
    assert set(images_asked_for(stub.requests).values()) == {1}


def test_disk_that_is_full_before_a_run_costs_nothing(tmp_path: Path, stub: StubServer) -> None:
    found, said = worked(tmp_path / "home", stub, "full-at-once")
    assert found["error"] == "StorageError"
    assert "has free space" in found["hint"]
    assert (stub.requests, said) == ([], "")


@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_home_that_cannot_be_written_is_named_before_anything_is_paid(
    used: bool, tmp_path: Path, stub: StubServer
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    if used:
        worked(home, stub, "nothing")
    asked = len(stub.requests)
    kept = [home, *home.rglob("*")]
    for path in kept:
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        found, said = worked(home, stub, "readonly")
    finally:
        for path in kept:
            path.chmod(0o700)
    assert found["error"] == "StorageError"
    assert str(home) in found["message"]
    assert "is writable" in found["hint"]
    assert (len(stub.requests), said) == (asked, "")
