"""Stdio and HTTP server."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, closing, suppress
from inspect import getdoc
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.stdio import stdio_server
from mcp_types import CallToolResult, InputRequiredResult, Tool, ToolAnnotations
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from gems._version import __version__
from gems.apps.mcp.results import error_answer, image_uri
from gems.apps.mcp.tools import Tools
from gems.apps.run_manager import RunManager
from gems.apps.server.app import check_reach, open_socket, serve_app
from gems.apps.server.auth import Access, KeyFile, UnknownKeyError, error_details, status_of
from gems.apps.server.dependencies import Service, caller_at, open_service
from gems.apps.server.gate import SecurityHeaders
from gems.errors import GemsError, OptionError
from gems.service import Gems
from gems.settings import Settings

_INSTRUCTIONS = (
    "generate_image generates an image, checks it against each requirement of the prompt and refines it; it "
    "returns the file, a small copy and a checklist. edit_image edits an image in the same way. repair_image "
    "mends only what an image lacks. verify_image checks any image against a prompt. Manage runs by "
    "id with get_run, cancel_run and resume_run."
)
_CHUNK = 65_536
_STDIO_PATIENCE_S = 1.0
"""Clients kill the process two seconds after they have closed standard input."""


class _Tools(MCPServer[Any]):
    """MCP server that returns errors of GEMS as results, and rejects unknown arguments."""

    async def list_tools(self) -> list[Tool]:
        """List the tools; arguments have no titles, which would only repeat their names ("Deadline S")."""
        tools = await super().list_tools()
        for tool in tools:
            shown = {name: {**schema} for name, schema in tool.input_schema["properties"].items()}
            for schema in shown.values():
                schema.pop("title", None)
            tool.input_schema = tool.input_schema | {"properties": shown}
        return tools

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        known = {tool.name: tool.input_schema["properties"] for tool in await self.list_tools()}
        unknown = [argument for argument in arguments if argument not in known.get(name, arguments)]
        if unknown:
            possible = f"Valid arguments of {name}: {', '.join(known[name])}."
            return error_answer(OptionError(f"Unknown argument: {unknown[0][:80]!r}.", hint=possible))
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if isinstance(error.__cause__, GemsError):
                return error_answer(error.__cause__)
            if isinstance(error.__cause__, ValidationError):
                return error_answer(_argument_error(error.__cause__, known[name]))
            raise


_TYPES = {"string": "text", "boolean": "true or false", "null": "null"}


def _argument_error(error: ValidationError, known: Mapping[str, Mapping[str, Any]]) -> OptionError:
    """Return what is wrong with a tool's arguments, given the JSON schemas of all of them."""
    faults = []
    for fault in error.errors():
        name = str(fault["loc"][0])
        kinds = known[name].get("anyOf", [known[name]])
        wanted = " or ".join(_TYPES.get(kind["type"], kind["type"]) for kind in kinds)
        if fault["type"] == "missing":
            faults.append(f"{name} is missing: {known[name].get('description', wanted)}")
        elif fault["type"] == "option":
            faults.append(fault["msg"])
        else:
            faults.append(f"{name} is {repr(fault['input'])[:80]}; it must be {wanted}.")
    return OptionError(" ".join(faults))


def create_server(tools: Tools) -> MCPServer[Any]:
    """Create the server with all tools."""
    server = _Tools("gems", title="GEMS", instructions=_INSTRUCTIONS, version=__version__, log_level="WARNING")
    reading = ToolAnnotations(read_only_hint=True)
    changing = ToolAnnotations(read_only_hint=False, destructive_hint=False)
    for tool, kind in (
        (tools.generate_image, changing),
        (tools.edit_image, changing),
        (tools.repair_image, changing),
        (tools.verify_image, reading),
        (tools.get_run, reading),
        (tools.cancel_run, changing),
        (tools.resume_run, changing),
    ):
        # Clients show the text as it is, so without the indentation of the source.
        server.add_tool(tool, description=getdoc(tool), annotations=kind)
    server.resource(image_uri("{run_id}"), name="run_image", mime_type="image/png")(tools.run_image)
    return server


class KeyGuard:
    """ASGI middleware that applies the access rules of the HTTP server."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI connection."""
        if scope["type"] == "http":
            try:
                caller_at(self._service, HTTPConnection(scope))
            except GemsError as error:
                headers = {"www-authenticate": "Bearer"} if isinstance(error, UnknownKeyError) else {}
                answer = JSONResponse({"error": error_details(error)}, status_of(error), headers)
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def standard_input() -> AsyncIterator[str]:
    """Yield the lines of standard input until it is closed.

    A daemon thread reads them: a read cannot be interrupted, and threads of the event loop's executor would
    keep the process alive until the next line. Child processes get an empty standard input.
    """
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    source = _take_descriptor(sys.stdin.fileno())

    def read() -> None:
        # The loop may be closed already.
        with suppress(RuntimeError, OSError):
            for line in _read_lines(source):
                loop.call_soon_threadsafe(lines.put_nowait, line)
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while (line := await lines.get()) is not None:
        yield line


def _take_descriptor(descriptor: int) -> int:
    """Duplicate a descriptor, and redirect the original to /dev/null."""
    own = os.dup(descriptor)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)
    return own


def _read_lines(source: int) -> Iterator[str]:
    # Not a file object, whose lock would block the interpreter's shutdown.
    parts: list[bytes] = []
    while chunk := os.read(source, _CHUNK):
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            yield b"".join([*parts, line]).decode(errors="replace")
            parts = []
        parts.append(rest)
    if any(parts):
        yield b"".join(parts).decode(errors="replace")


async def serve_stdio(settings: Settings) -> None:
    """Serve the client that started this process until it closes standard input."""
    async with Gems(settings) as gems:
        manager = RunManager(gems)
        access = Access(KeyFile(settings.serve.keys_path(settings)), manager)
        server = create_server(Tools(manager=manager, access=access, local=True, answer_s=settings.serve.mcp_answer_s))
        lines: Any = standard_input()
        # The high-level server's own method does not accept another standard input.
        low = server._lowlevel_server  # noqa: SLF001
        try:
            async with aclosing(lines), stdio_server(stdin=lines) as (reading, writing):
                await low.run(reading, writing, low.create_initialization_options())
        finally:
            await manager.drain(_STDIO_PATIENCE_S)


async def serve_http(settings: Settings, ready: Callable[[str], None]) -> None:
    """Serve over HTTP until the process is stopped; raise ConfigurationError without keys or a free port."""
    check_reach(settings)
    with closing(open_socket(settings.serve.host, settings.serve.port)) as listener:
        async with open_service(settings) as service:
            app = http_app(service)
            # The app itself opens its session manager.
            async with app.router.lifespan_context(app):
                guarded = SecurityHeaders(KeyGuard(app, service))
                await serve_app(guarded, listener, service, lambda address: ready(f"{address}/mcp"))


def http_app(service: Service) -> Starlette:
    """Create the ASGI app, without access control."""
    settings = service.settings.serve
    server = create_server(
        Tools(manager=service.manager, access=service.access, local=False, answer_s=settings.mcp_answer_s)
    )
    return server.streamable_http_app(host=settings.host, max_request_body_size=settings.max_body_mb * 1_000_000)
