"""Isolation of every test, and the stub server."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Iterator
from inspect import unwrap
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from pytest_socket import socket_allow_hosts

from tests.support import fork_server, node
from tests.support.postgres import Postgres, running
from tests.support.scripted_models import Desk, opened_desk
from tests.support.scripted_service import PATIENCE_S
from tests.support.stub import StubServer

_FOREIGN = (
    "GEMS_",
    "OPENAI_",
    "ANTHROPIC_",
    "GOOGLE_",
    "GEMINI_",
    "OLLAMA_",
    "LANGSMITH_",
    "LANGCHAIN_",
    "XDG_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
)


# Ray's workers are nice to others, so that beside these they would stand still.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - so Ray spells it
# httpx waits 5 s by default, and a machine that is busy with something else may need longer for an answer.
for _call in (
    *(httpx.get, httpx.post, httpx.delete, httpx.request, unwrap(httpx.stream)),
    *(httpx.Client.__init__, httpx.AsyncClient.__init__),
):
    _call.__kwdefaults__["timeout"] = httpx.Timeout(PATIENCE_S)


def pytest_collection_finish() -> None:
    """Keep the modules and tests that are loaded out of every later garbage collection."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    fork_server.stop()


@pytest.fixture(autouse=True)
def loopback_only() -> None:
    """No test reaches beyond this machine."""
    socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the developer's settings is seen, and nothing of theirs is written."""
    for name in list(os.environ):
        if name.upper().startswith(_FOREIGN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GEMS_HOME", str(tmp_path / "gems"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def stub() -> Iterator[StubServer]:
    """A server of the built-in world that can be told to misbehave; each test has its own."""
    with StubServer() as server:
        yield server


@pytest.fixture
def far() -> Iterator[StubServer]:
    """Another server of this kind."""
    with StubServer() as server:
        yield server


@pytest.fixture(scope="session")
def npm() -> node.Node:
    """Node.js with the clients in `tests/clients`; of the session, since npm reads the settings of its user."""
    return node.installed()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL server, one for each process of the tests."""
    with running() as server:
        yield server


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty database of the test's own."""
    with postgres.database() as url:
        yield url


@pytest.fixture(params=["files", "postgres"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """The test runs with each kind of store: the URL of a database, or None for files."""
    if request.param == "files":
        return None
    url: str = request.getfixturevalue("database")
    monkeypatch.setenv("GEMS_CHECKPOINT", url)
    return url


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """Scripted models, a real ledger and a real image store."""
    async with opened_desk(tmp_path / "home") as desk:
        yield desk
