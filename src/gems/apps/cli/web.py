"""`gems web`."""

from __future__ import annotations

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import reported
from gems.apps.cli.serve import served


def web(
    host: options.Host = None,
    port: options.Port = None,
    chat: options.Chat = None,
    judge: options.Judge = None,
    generator: options.Generator = None,
    debug: options.Debug = False,
) -> None:
    """Open the web page: see the loop happen, and go on with feedback in words.

    It is `gems serve` with the page, whose address goes to standard output. Ctrl-C ends the server; runs go
    on with its next start. The page needs the extra `web`: pip install 'gems-agent[web]'.

    \b
    Examples:
      gems web
      gems web --port 9000 --generator diffusers:z-image-turbo

    \b
    Exit codes:
      0  ended
      2  bad usage or configuration
      1  failure
    """  # noqa: D301 - \b keeps the lines apart
    with reported(debug=debug):
        served(host, port, options.Models(chat, judge, generator), _ready, debug=debug, page=True)


def _ready(address: str) -> None:
    typer.echo(f"{address}/web/")
    typer.echo(f"The page is at {address}/web/; Ctrl-C stops its server.", err=True)
