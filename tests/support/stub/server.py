"""The stub as a server in a thread of its own, on a free port of this machine."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import uvicorn
from starlette.requests import Request

from tests.support.stub.app import Behaviour, World, build
from tests.support.stub.faults import Fault
from tests.support.stub.models import chat_brain, picture_brain
from tests.support.stub.records import Body, Kind, Record, Recorded

_START_S = 180.0


class StubServer:
    """An OpenAI-compatible server on 127.0.0.1 that keeps what it was asked and misbehaves when told to.

    Use it as a context manager. It serves `POST /v1/chat/completions` (also streamed), `POST
    /v1/images/generations`, `POST /v1/images/edits`, `GET /v1/models` and `POST /generate`.

    Args:
        chat: What answers chat requests; see `tests.support.stub.models.chat_brain`.
        images: What draws; see `tests.support.stub.models.picture_brain`.
        behaviour: Settings as named in `tests.support.stub.app.Behaviour`; change `stub.behaviour` later.
    """

    def __init__(self, chat: Any = None, images: Any = None, **behaviour: Any) -> None:
        self.behaviour = Behaviour(**behaviour)
        self.port = 0
        self._record = Record()
        self._brains = (chat, images)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def root(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """Address of the OpenAI-compatible API."""
        return f"{self.root}/v1"

    @property
    def generate_url(self) -> str:
        """Address of the plain image server."""
        return f"{self.root}/generate"

    @property
    def requests(self) -> list[Recorded]:
        """Every request so far, in the order they came."""
        return self._record.requests

    def calls(self, kind: Kind) -> list[Recorded]:
        """The requests of one kind."""
        return [recorded for recorded in self.requests if recorded.kind == kind]

    def peak(self, kind: Kind) -> int:
        """Most requests of one kind that were under way at the same time."""
        return self._record.peak[kind]

    def under_way(self) -> int:
        """How many requests are being answered."""
        return self._record.in_flight.total()

    def fault(
        self,
        fault: Fault,
        path: Kind = "chat",
        *,
        times: int | None = None,
        when: Callable[[Body], bool] = lambda _body: True,
    ) -> None:
        """Misbehave from now on.

        Faults are looked at in the order they were planned. Several may befall one request: one of each
        name, up to the first that answers it outright.

        Args:
            fault: How.
            path: To which requests.
            times: How many of them; None for all.
            when: Only to those whose body this holds for. Called in the server's thread.
        """
        self._record.plan(fault, path, times, when)

    def behave(self) -> None:
        """Forget all planned faults."""
        self._record.clear()

    def __enter__(self) -> StubServer:
        chat, images = self._brains
        world = World(_Late(chat_brain, chat), _Late(picture_brain, images), self.behaviour, self._record, self._drop)
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = listener.getsockname()[1]
        self._server = _Server(build(world))
        self._thread = threading.Thread(target=self._server.run_on, args=(listener,), name="stub", daemon=True)
        self._thread.start()
        if not self._server.ready.wait(_START_S):
            raise RuntimeError("The stub server did not start.")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None and self._thread is not None:
            self._server.stop()
            self._thread.join(_START_S)

    async def _drop(self, request: Request) -> None:
        if self._server is not None:
            await self._server.drop(request)


class _Late:
    """A brain that is made with the first request, so that unused ones cost nothing."""

    def __init__(self, make: Callable[[Any], Any], given: Any) -> None:
        self._make, self._given, self._brain = make, given, None
        self._lock = threading.Lock()

    async def __call__(self, asked: Any) -> Any:
        if self._brain is None:
            await asyncio.to_thread(self._wake)
        return await self._brain(asked)  # type: ignore[misc]

    def _wake(self) -> None:
        with self._lock:
            if self._brain is None:
                self._brain = self._make(self._given)


class _Server(uvicorn.Server):
    """uvicorn that stops at once, whatever is still under way."""

    def __init__(self, app: Any) -> None:
        # h11 keeps limits of its own; requests with images in them must pass, and nothing is logged.
        config = uvicorn.Config(
            app, log_config=None, log_level="critical", access_log=False, lifespan="off", http="h11",
            h11_max_incomplete_event_size=1 << 20,
        )  # fmt: skip
        super().__init__(config)
        self.ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()

    def run_on(self, listener: socket.socket) -> None:
        asyncio.run(self.serve(sockets=[listener]))

    def stop(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self.on_tick(0)
        self.ready.set()
        await self._stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        tasks = list(self.server_state.tasks)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def drop(self, request: Request) -> None:
        """Reset the connection of `request`; what is sent on it afterwards goes nowhere."""
        for connection in list(self.server_state.connections):
            if getattr(connection, "client", None) == tuple(request.scope["client"]):
                raw = connection.transport.get_extra_info("socket")
                # Lingering for zero seconds makes closing a reset.
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.transport.abort()
        # Until uvicorn has heard of it.
        await asyncio.sleep(0.01)
