"""A real `langgraph dev`, offline, with a home of its own; one for each process of the tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.conftest import _FOREIGN

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 180


@dataclass(frozen=True, slots=True)
class Studio:
    url: str
    home: Path
    log: Path


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """The server; whatever it asks of the internet fails, and it takes two runs at a time."""
    place = tmp_path_factory.mktemp("studio")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(_FOREIGN)}
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    own = {"HOME": str(place), "GEMS_HOME": str(place / "home"), "NO_PROXY": "127.0.0.1,localhost"}
    command = [sys.executable, "-m", "langgraph_cli", "dev", "--config", str(ROOT / "langgraph.json")]
    command += ["--no-browser", "--no-reload", "--port", str(port), "--n-jobs-per-worker", "2"]
    studio = Studio(f"http://127.0.0.1:{port}", place / "home", place / "log")
    with (
        studio.log.open("w") as log,
        subprocess.Popen(command, cwd=place, env=kept | nowhere | own, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            wait_for(studio, process)
            yield studio
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_for(studio: Studio, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < until:
        try:
            if httpx.get(f"{studio.url}/ok", trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail(f"langgraph dev did not start:\n{studio.log.read_text()[-4000:]}")


@pytest_asyncio.fixture
async def client(studio: Studio) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=studio.url) as opened:
        yield opened
