"""`gems web`."""

from __future__ import annotations

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import handle_errors
from gems.apps.cli.serve import run_server


def web(
    host: options.Host = None,
    port: options.Port = None,
    chat: options.Chat = None,
    judge: options.Judge = None,
    generator: options.Generator = None,
    debug: options.Debug = False,
) -> None:
    """Serve the web page: watch runs, and continue them with feedback in words.

    This is `gems serve` with the web page, whose address is printed to standard output. Ctrl-C stops the
    server; its next start resumes the runs. Requires the extra `web`: pip install 'gems-agent[web]'.

    \b
    Examples:
      gems web
      gems web --port 9000 --generator diffusers:z-image-turbo

    \b
    Exit codes:
      0  stopped
      2  bad usage or configuration
      1  failure
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(debug=debug):
        run_server(
            host, port, options.Models(chat, judge, generator), _print_page_address, debug=debug, page=True
        )


def _print_page_address(address: str) -> None:
    typer.echo(f"{address}/web/")
    typer.echo(f"Web page at {address}/web/. Press Ctrl-C to stop the server.", err=True)
