"""The server process: listening, and stopping without losing the progress of runs."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from gems.apps.server.auth import KeyFile
from gems.apps.server.dependencies import Service, is_loopback
from gems.apps.serving.app import create_app
from gems.errors import ConfigurationError
from gems.service import Gems
from gems.settings import Settings

_BACKLOG = 2048
_ANSWERS_S = 5
"""Seconds for open responses after all runs have stopped."""


async def serve(settings: Settings, ready: Callable[[str], None], gems: Gems | None = None) -> None:
    """Serve until the process is stopped; runs stop at their next step, and the next server resumes them.

    `ready` is called with the address. `gems` replaces the service made from the settings; it must be closed.
    """
    check_reach(settings)
    app = create_app(settings, gems)
    with closing(open_socket(settings.serve.host, settings.serve.port)) as listener:
        # Opened here, so that errors are reported like those of other commands.
        async with app.router.lifespan_context(app):
            await serve_app(app, listener, app.state.service, ready)


async def serve_app(
    app: ASGIApp, listener: socket.socket, service: Service, ready: Callable[[str], None]
) -> None:
    """Handle requests until the process is stopped, then drain the runs of the service.

    The caller opens and closes the service. `ready` is called with the address.
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
    """Raise ConfigurationError if other machines could use the server without a key."""
    host = settings.serve.host
    path = settings.serve.keys_path(settings)
    if not is_loopback(host) and not KeyFile(path).all():
        raise ConfigurationError(
            f"Listening on {host} would let other machines use the models, and there are no keys in {path}.",
            hint="Add one with `gems keys add NAME`, or listen on 127.0.0.1.",
        )


class _Server(uvicorn.Server):
    """uvicorn server that drains runs before it waits for open responses."""

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
        await self._service.manager.drain(self._service.settings.serve.drain_s)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: Any) -> None:
        super().handle_exit(sig, frame)
        # The signal has been handled; uvicorn must not raise it again after the shutdown.
        self._captured_signals.clear()


def open_socket(host: str, port: int) -> socket.socket:
    """Open a listening socket, or raise ConfigurationError."""
    bare = host.strip("[]")
    try:
        family = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((bare, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"Cannot listen on {host}, port {port}: {error.strerror or error}.",
            hint="Choose another address with --host and --port; port 0 selects a free one.",
        ) from None
    # asyncio sets TCP_NODELAY only if the protocol is set; otherwise small responses wait for 40 ms.
    return socket.socket(fileno=listener.detach(), proto=socket.IPPROTO_TCP)


def _address(host: str, listener: socket.socket) -> str:
    bare = host.strip("[]")
    shown = f"[{bare}]" if ":" in bare else bare
    return f"http://{shown}:{listener.getsockname()[1]}"
