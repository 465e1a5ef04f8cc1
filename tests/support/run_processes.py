"""Processes that begin a run, or go on with one, and print its result."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.fork_server import forked
from tests.support.pausable_models import PATIENCE_S
from tests.support.stub import StubServer

ROOT = Path(__file__).parent.parent.parent


class Worker(subprocess.Popen[str]):
    """A process at work."""

    def kill(self) -> None:
        """Kill it, and return when nothing of it is left that could write."""
        super().kill()
        if self.stdout is not None and not self.stdout.closed:
            self.stdout.read()


@contextmanager
def worker(home: Path, stub: StubServer, run_id: str = "", candidates: int = 1, task: str = "run") -> Iterator[Worker]:
    """A process at work; killed in the end if it is still there.

    That its judge sees is known: the question about that belongs to the home and not to a run.
    """
    home.mkdir(parents=True, exist_ok=True)
    (home / "vision.json").write_text(json.dumps({f"stub at {stub.base_url}": ["Red.", time.time()]}))
    command = [*forked("tests.support.run_worker"), str(home), stub.base_url, run_id, str(candidates), task]
    with Worker(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ.copy()
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def finished(home: Path, stub: StubServer, run_id: str = "", candidates: int = 1, task: str = "run") -> dict[str, Any]:
    """The result of a process that nothing happens to."""
    with worker(home, stub, run_id, candidates, task) as process:
        told, wrong = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, wrong
    result: dict[str, Any] = json.loads(told)
    return result
