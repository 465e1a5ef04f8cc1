"""`gems mcp`."""

from __future__ import annotations

from typing import Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import handle_errors
from gems.errors import MissingExtraError


def mcp(
    http: Annotated[
        bool, typer.Option("--http", help="Serve streamable HTTP at /mcp instead of standard input.")
    ] = False,
    host: options.Host = None,
    port: options.Port = None,
    chat: options.Chat = None,
    judge: options.Judge = None,
    generator: options.Generator = None,
    debug: options.Debug = False,
) -> None:
    """Serve GEMS as tools over the Model Context Protocol (MCP).

    By default on standard input and output, for a client that starts the command. With --http for any number
    of clients, which need an API key if the server has keys.

    \b
    Examples:
      gems mcp
      gems mcp --http --port 8765

    \b
    Exit codes:
      0    the client disconnected, or the server was stopped
      2    bad usage or configuration
      1    failure
      130  interrupted
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(debug=debug):
        import asyncio  # noqa: PLC0415 - not needed for help

        from gems.apps.cli.runner import run_async, settings_with, with_address  # noqa: PLC0415 - heavy
        from gems.observability.logging import configure_logging  # noqa: PLC0415

        try:
            from gems.apps.mcp import serving  # noqa: PLC0415
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("gems"):
                raise
            raise MissingExtraError("The MCP server", "mcp") from None

        settings = settings_with(options.Models(chat, judge, generator))
        configure_logging(settings, debug=debug)
        if http:
            # The server handles signals itself, since it stops runs gracefully.
            asyncio.run(serving.serve_http(with_address(settings, host, port), _print_mcp_address))
        else:
            run_async(serving.serve_stdio(settings))


def _print_mcp_address(address: str) -> None:
    # Standard output stays empty in both modes.
    typer.echo(f"Serving MCP at {address}", err=True)
