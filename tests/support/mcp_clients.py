"""The official client, over both transports, and servers for it."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from gems.apps.mcp.server import KeyGuard, http_app
from gems.apps.server.app import open_socket
from gems.apps.server.dependencies import open_service
from gems.service import Gems
from tests.support.fork_server import forked
from tests.support.scripted_models import settings_at
from tests.support.scripted_service import House
from tests.support.terminal import started


class Told:
    """Keeps what progress tells; also the id of the run."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.steps: list[tuple[float, float | None]] = []
        self.changed = asyncio.Event()

    async def __call__(self, done: float, total: float | None, message: str | None) -> None:
        self.steps.append((done, total))
        self.messages.append(message or "")
        self.changed.set()

    @property
    def run_id(self) -> str:
        return self.messages[0].removeprefix("run ")

    async def until(self, part: str) -> None:
        async with asyncio.timeout(180):
            while not any(part in message for message in self.messages):
                self.changed.clear()
                await self.changed.wait()


def own_process(**environment: str) -> StdioServerParameters:
    """`gems mcp` as a client starts it."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("GEMS_")}
    kept |= {"GEMS_SERVE__MCP_ANSWER_S": "600"}
    command, *arguments = forked()
    return StdioServerParameters(command=command, args=[*arguments, "mcp"], env=kept | environment, cwd=Path.cwd())


@asynccontextmanager
async def process_over_http(*arguments: str, **environment: str) -> AsyncIterator[str]:
    """`gems mcp --http`; the address of it."""
    environment = {"GEMS_SERVE__MCP_ANSWER_S": "600"} | environment
    with started("mcp", "--http", "--port", "0", *arguments, **environment) as process:
        try:
            assert process.stderr is not None
            line = await asyncio.to_thread(process.stderr.readline)
            assert "Serving MCP at" in line, line + process.stderr.read()
            yield line.split()[-1]
        finally:
            process.terminate()
            _, err = process.communicate(timeout=300)
        assert (process.returncode, err) == (0, "")


@asynccontextmanager
async def served(house: House, **serve: Any) -> AsyncIterator[str]:
    """A server in this process with scripted models, over real HTTP."""
    settings = settings_at(house.home)
    settings = settings.model_copy(
        update={"serve": settings.serve.model_copy(update={"drain_s": 1, "mcp_answer_s": 600} | serve)}
    )
    gems = Gems(settings, chat=house.chat, generator=house.generator, skills=())
    async with open_service(settings, gems) as service:
        app = http_app(service)
        config = uvicorn.Config(KeyGuard(app, service), lifespan="off", log_config=None, access_log=False)
        config.timeout_graceful_shutdown = 1
        server = uvicorn.Server(config)
        with closing(open_socket("127.0.0.1", 0)) as listener:
            async with app.router.lifespan_context(app):
                task = asyncio.create_task(server._serve([listener]))
                try:
                    yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
                finally:
                    server.should_exit = True
                    await service.manager.drain(1)
                    await task


@asynccontextmanager
async def with_key(address: str, key: str, mode: str = "auto") -> AsyncIterator[Client]:
    """A client that sends a key."""
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {key}"}, timeout=300) as http,
        Client(streamable_http_client(address, http_client=http), mode=mode) as client,
    ):
        yield client


async def known(client: Client, run_id: str) -> dict[str, Any]:
    """What get_run tells."""
    found = (await client.call_tool("get_run", {"run_id": run_id})).structured_content
    assert found is not None
    return found


async def once(client: Client, run_id: str, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What get_run tells, as soon as something holds."""
    async with asyncio.timeout(180):
        while True:
            if true(found := await known(client, run_id)):
                return found
            await asyncio.sleep(0.05)


def has_ended(found: dict[str, Any]) -> bool:
    return bool(found["status"] != "running")


def content(path: str) -> bytes:
    return Path(path).read_bytes()


def text_of(result: Any) -> str:
    return str(result.content[0].text)


def base64_of(path: str) -> str:
    return base64.b64encode(content(path)).decode()
