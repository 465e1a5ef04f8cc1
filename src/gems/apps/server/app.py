"""The server as a process: it listens, and stops without losing what its runs have done."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from gems.apps.server.dependencies import Service, is_loopback
from gems.apps.serving.app import create_app
from gems.apps.serving.keys import KeyFile
from gems.errors import ConfigurationError
from gems.service import Gems
from gems.settings import Settings

_BACKLOG = 2048
_ANSWERS_S = 5
"""Seconds for what is still to be sent, once all runs have stopped."""


async def serve(settings: Settings, ready: Callable[[str], None], gems: Gems | None = None) -> None:
    """Serve until the process is told to stop; runs stop at their next step and go on with the next server.

    Args:
        settings: Of the server.
        ready: Told the address once everything is open.
        gems: Not yet opened, in place of one made from the settings.

    Raises:
        ConfigurationError: it may not listen there, or cannot.
        GemsError: a model or a store cannot be opened; see `Gems`.
    """
    check_reach(settings)
    app = create_app(settings, gems)
    with closing(listening(settings.serve.host, settings.serve.port)) as listener:
        # Opened here, so that what is wrong is told as every other error is.
        async with app.router.lifespan_context(app):
            await answer(app, listener, app.state.service, ready)


async def answer(
    app: ASGIApp, listener: socket.socket, service: Service, ready: Callable[[str], None]
) -> None:
    """Answer requests until the process is told to stop, then let runs stop at their next step.

    Args:
        app: Whatever begins and shows runs of the service.
        listener: Where requests come.
        service: Opened, and closed by the caller.
        ready: Told the address.
    """
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_ANSWERS_S,
        server_header=False,
    )
    server = _Server(config, service)
    server.on_ready = lambda: ready(_address(service.settings.serve.host, listener))
    await server.serve(sockets=[listener])


def check_reach(settings: Settings) -> None:
    """See to it that only who has a key reaches the server from other machines.

    Raises:
        ConfigurationError: there are no keys, and the host is not this machine alone.
    """
    host = settings.serve.host
    path = settings.serve.keys_path(settings)
    if not is_loopback(host) and not KeyFile(path).all():
        raise ConfigurationError(
            f"On {host}, other machines could use the models, and there are no keys in {path}.",
            hint="Add one with `gems keys add NAME`, or listen on 127.0.0.1.",
        )


class _Server(uvicorn.Server):
    """uvicorn that lets runs stop before it waits for its answers, which wait for the runs."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self.on_ready: Callable[[], None] = lambda: None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await self._service.hub.drain(self._service.settings.serve.drain_s)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: Any) -> None:
        super().handle_exit(sig, frame)
        # What was asked for is done: the signal is not raised again once the server has stopped.
        self._captured_signals.clear()


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        ConfigurationError: it cannot.
    """
    bare = host.strip("[]")
    try:
        family = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((bare, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"The server cannot listen on {host}, port {port}: {error.strerror or error}.",
            hint="Name another address with --host and --port; port 0 takes a free one.",
        ) from None
    # With the protocol named, or asyncio lets small answers wait for 40 ms to be sent along with more.
    return socket.socket(fileno=listener.detach(), proto=socket.IPPROTO_TCP)


def _address(host: str, listener: socket.socket) -> str:
    bare = host.strip("[]")
    shown = f"[{bare}]" if ":" in bare else bare
    return f"http://{shown}:{listener.getsockname()[1]}"
