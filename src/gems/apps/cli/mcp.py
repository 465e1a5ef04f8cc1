"""`gems mcp`."""

from __future__ import annotations

from typing import Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import reported
from gems.errors import MissingExtraError


def mcp(
    http: Annotated[
        bool, typer.Option("--http", help="Serve streamable HTTP at /mcp in place of standard input.")
    ] = False,
    host: options.Host = None,
    port: options.Port = None,
    chat: options.Chat = None,
    judge: options.Judge = None,
    generator: options.Generator = None,
    debug: options.Debug = False,
) -> None:
    """Serve GEMS as tools of the Model Context Protocol.

    By default on standard input and output, for a client on this machine that starts the command. With --http
    for any number of clients, each with a key of the server where it has keys.

    \b
    Examples:
      gems mcp
      gems mcp --http --port 8765

    \b
    Exit codes:
      0    the client has gone, or the server was stopped
      2    bad usage or configuration
      1    failure
      130  interrupted
    """  # noqa: D301 - \b keeps the lines apart
    with reported(debug=debug):
        import asyncio  # noqa: PLC0415 - not needed for help

        from gems.apps.cli.runner import interruptibly, listening_at, settings_with  # noqa: PLC0415 - heavy
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
            # The server heeds signals itself, and lets runs come to a good end first.
            asyncio.run(serving.serve_http(listening_at(settings, host, port), _announce))
        else:
            interruptibly(serving.serve_stdio(settings))


def _announce(address: str) -> None:
    # Standard output stays empty in every mode.
    typer.echo(f"MCP is served at {address}", err=True)
