"""The MCP server on standard input and output, and over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing, closing
from typing import Any

from mcp.server.stdio import stdio_server
from starlette.applications import Starlette

from gems.apps.mcp.guarding import KeyGuard
from gems.apps.mcp.input import standard_input
from gems.apps.mcp.server import create_server
from gems.apps.mcp.tools import ToolState
from gems.apps.run_manager import RunManager
from gems.apps.server.app import check_reach, open_socket, serve_app
from gems.apps.server.auth import Access
from gems.apps.server.dependencies import Service, open_service
from gems.apps.serving.keys import KeyFile
from gems.service import Gems
from gems.settings import Settings

_STDIO_PATIENCE_S = 1.0
"""Clients kill the process two seconds after they have closed standard input."""


async def serve_stdio(settings: Settings) -> None:
    """Serve the client that started this process until it closes standard input."""
    async with Gems(settings) as gems:
        manager = RunManager(gems)
        access = Access(KeyFile(settings.serve.keys_path(settings)), manager)
        server = create_server(ToolState(manager=manager, access=access, local=True))
        lines: Any = standard_input()
        # The high-level server's own method does not accept another standard input.
        low = server._lowlevel_server  # noqa: SLF001
        try:
            async with aclosing(lines), stdio_server(stdin=lines) as (reading, writing):
                await low.run(reading, writing, low.create_initialization_options())
        finally:
            await manager.drain(_STDIO_PATIENCE_S)


async def serve_http(settings: Settings, ready: Callable[[str], None]) -> None:
    """Serve over HTTP until the process is stopped; `ready` is called with the address.

    Raises ConfigurationError if the server would be open to everybody, or if the port is in use.
    """
    check_reach(settings)
    with closing(open_socket(settings.serve.host, settings.serve.port)) as listener:
        async with open_service(settings) as service:
            app = http_app(service)
            # The app itself opens its session manager.
            async with app.router.lifespan_context(app):
                await serve_app(
                    KeyGuard(app, service), listener, service, lambda address: ready(f"{address}/mcp")
                )


def http_app(service: Service) -> Starlette:
    """Create the ASGI app, without access control."""
    settings = service.settings.serve
    server = create_server(ToolState(manager=service.manager, access=service.access, local=False))
    return server.streamable_http_app(
        host=settings.host, max_request_body_size=settings.max_body_mb * 1_000_000
    )
