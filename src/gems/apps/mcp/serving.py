"""The server on standard input and output, and over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing, closing
from typing import Any

from mcp.server.stdio import stdio_server
from starlette.applications import Starlette

from gems.apps.mcp.desk import Desk
from gems.apps.mcp.guarding import KeyGuard
from gems.apps.mcp.input import standard_input
from gems.apps.mcp.server import create_server
from gems.apps.run_manager import RunHub
from gems.apps.server.app import answer, check_reach, listening
from gems.apps.server.auth import Access
from gems.apps.server.dependencies import Service, open_service
from gems.apps.serving.keys import KeyFile
from gems.service import Gems
from gems.settings import Settings

_STDIO_PATIENCE_S = 1.0
"""Clients kill what is still there two seconds after they have closed standard input."""


async def serve_stdio(settings: Settings) -> None:
    """Serve the client that started this process, until it closes standard input.

    Raises:
        GemsError: see `Gems`.
    """
    async with Gems(settings) as gems:
        hub = RunHub(gems)
        access = Access(KeyFile(settings.serve.keys_path(settings)), hub)
        server = create_server(Desk(hub=hub, access=access, local=True))
        lines: Any = standard_input()
        # The high-level server's own method takes no other standard input.
        low = server._lowlevel_server  # noqa: SLF001
        try:
            async with aclosing(lines), stdio_server(stdin=lines) as (reading, writing):
                await low.run(reading, writing, low.create_initialization_options())
        finally:
            await hub.drain(_STDIO_PATIENCE_S)


async def serve_http(settings: Settings, ready: Callable[[str], None]) -> None:
    """Serve over HTTP until the process is told to stop; runs stop at their next step, as with `gems serve`.

    Args:
        settings: Of the server.
        ready: Told its address.

    Raises:
        ConfigurationError: it would be open to everybody, or its port is taken.
        GemsError: see `Gems`.
    """
    check_reach(settings)
    with closing(listening(settings.serve.host, settings.serve.port)) as listener:
        async with open_service(settings) as service:
            app = http_app(service)
            # What the session manager needs is opened by the app itself.
            async with app.router.lifespan_context(app):
                await answer(
                    KeyGuard(app, service), listener, service, lambda address: ready(f"{address}/mcp")
                )


def http_app(service: Service) -> Starlette:
    """The app; only those with a key are let in, where there are keys."""
    settings = service.settings.serve
    server = create_server(Desk(hub=service.hub, access=service.access, local=False))
    return server.streamable_http_app(
        host=settings.host, max_request_body_size=settings.max_body_mb * 1_000_000
    )
